// What a golden case expects, against what was observed.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace weir::golden {

// One sentence for each difference. Mappings are compared by the keys that are expected, lists without regard to their
// order. A key that cannot be observed is a difference, so that no expectation is passed over; null is expected of a
// header that must not be there. "findings" are all that there are: each a code, or a mapping whose message and fix are
// parts of the finding's.
std::vector<std::string> differences(const nlohmann::json& expected, const nlohmann::json& observed);

}  // namespace weir::golden
