// Policies as the golden tables write them (README.md).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "config/snapshot.h"

namespace weir::golden {

std::string text_of(const std::optional<base::Duration>& duration);

// Adds their keys to `into`.
void describe(const config::Cluster& cluster, nlohmann::json& into);
void describe(const config::RetryPolicy& policy, std::string_view path, nlohmann::json& into);

}  // namespace weir::golden
