// Durations as Istio's manifests write them: Go's syntax ("1h30m", "0.5s", "250ms").
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace weir::config {

// Numbers (a fraction is allowed) each with its unit: h, m, s, ms, us, ns. Nothing else: no sign, no space, no bare
// number but "0". Nothing for what is malformed or beyond two hundred years.
std::optional<base::Duration> parse_duration(std::string_view text);

// The shortest such text: "1h30m", "2s", "250ms", "0s".
std::string to_string(base::Duration duration);

}  // namespace weir::config
