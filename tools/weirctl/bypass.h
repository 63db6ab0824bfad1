// weirctl bypass: the brake. A flag or a row in a pinned map, where agents write nothing, makes the next
// connect() go the plain way; it works with the agent dead, and stays until it is taken off, or the pod or the
// service port is not diverted any more.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"
#include "interception/maps.h"
#include "weirctl/session.h"

namespace weir::weirctl {

// One of the three.
struct BrakeTarget {
  bool node = false;
  std::string pod;      // a name that the agent knows, or (the agent need not answer) an IP or netns cookie
  std::string service;  // NAME:PORT, or CLUSTER-IP:PORT
};

base::Result<void> set_brake(interception::Maps& maps, const Settings& settings, const BrakeTarget& target, bool on);
// {node: bool, pods: [row], services: [row]}: where it is on.
base::Result<nlohmann::json> brakes(const interception::Maps& maps);

}  // namespace weir::weirctl
