// Kubernetes' labels and annotations.
#pragma once

#include <map>
#include <string>

namespace weir::config {

using Labels = std::map<std::string, std::string, std::less<>>;

// Whether `labels` has all that are `wanted`.
bool includes(const Labels& labels, const Labels& wanted);

}  // namespace weir::config
