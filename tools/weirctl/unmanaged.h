// weirctl unmanaged: connections of enrolled pods that go past weir, though they would be diverted if they were dialled
// now. weirctl adopt closes them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "weirctl/session.h"

namespace weir::weirctl {

// Whose; empty: any. Settings::namespace_name narrows the pods down.
struct UnmanagedScope {
  std::string pod;      // as people name it
  std::string service;  // as people name it
};

// The agent's /unmanaged.
base::Result<nlohmann::json> fetch_unmanaged(const Settings& settings, const UnmanagedScope& scope);
std::string render_unmanaged(const nlohmann::json& list, bool wide, bool color);

}  // namespace weir::weirctl
