// How a command shows what it found: -o table|wide|json|yaml, and -w.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "weirctl/session.h"

namespace weir::weirctl {

// The form for people; `wide` and `color` as the flags say.
using Render = std::function<std::string(const nlohmann::json& data, bool wide, bool color)>;

// Fetches and prints, with -w again and again until interrupted. A failure to fetch is a message
// on stderr and kData.
int show(const Settings& settings, const std::function<base::Result<nlohmann::json>()>& fetch, const Render& render);

std::string to_yaml(const nlohmann::json& value);
std::string to_text(const nlohmann::json& value, const Settings& settings, const Render& render);

}  // namespace weir::weirctl
