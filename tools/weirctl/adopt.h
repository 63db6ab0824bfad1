// weirctl adopt: closes unmanaged connections, so that their clients dial again and come to weir. Nothing is closed
// without --yes, nothing that is in use without --active, and never more, or faster, than asked for. weirctl sets the
// pace and the agent looks at each connection once more before it closes it: interrupted, it stops.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "weirctl/unmanaged.h"

namespace weir::weirctl {

struct AdoptOptions {
  UnmanagedScope scope;
  bool node = false;     // all pods
  bool yes = false;      // otherwise it is only shown
  bool active = false;   // those in use, too
  uint32_t limit = 100;  // closes at most
  uint32_t rate = 10;    // closes a second
  int64_t min_idle_ms = 5000;
};

// What is to become of each connection of /unmanaged, in the order in which it happens: member "result" is "close", or
// why it is left alone ("active", "undeclared", "limit").
nlohmann::json plan_adoption(const nlohmann::json& connections, const AdoptOptions& options);
// Asks for one connection of the plan to be closed: the agent's answer.
using Close = std::function<base::Result<nlohmann::json>(const nlohmann::json& connection)>;
// Closes what the plan has to be closed, so many a second, and writes into it what became of each: the agent's word, or
// "failed" with the reason as member "error", which ends nothing. An error: none that follow could be closed either,
// for lack of an agent, or of a kernel that can.
base::Result<void> carry_out(nlohmann::json& plan, uint32_t rate, const Close& close);
// Of {dry_run, connections: [{..., result}], problems}.
std::string render_adoption(const nlohmann::json& adoption, bool wide, bool color);

}  // namespace weir::weirctl
