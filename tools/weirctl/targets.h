// Pods and services as the BPF maps key them, by the names that people use for them, and back.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "interception/maps.h"
#include "weirctl/agent.h"
#include "weirctl/session.h"

namespace weir::weirctl {

// The netns cookie of a pod: by name as the agent knows it, or by what the map itself has: IP or cookie.
base::Result<uint64_t> cookie_of(const interception::Maps& maps, const Settings& settings, const std::string& pod);
// Where a service, as the agent lists it, is dialled for that port: its clusterIPs, and its endpoints' addresses if it
// is headless and balanced. Empty: nowhere.
std::vector<base::SocketAddress> addresses_of(const nlohmann::json& service, uint16_t port);
// The addresses of "SERVICE:PORT", one at least; "IP:PORT" needs no agent.
base::Result<std::vector<base::SocketAddress>> addresses_of(const Settings& settings, const std::string& service_port);

// "10.96.0.10:50051" -> "default/greeter"; of one list, and of what the agent says. Empty while it does not answer.
std::map<std::string, std::string> service_names(const nlohmann::json& services);
std::map<std::string, std::string> service_names(const Agent& agent);
// By netns cookie; empty while the agent does not answer.
std::map<uint64_t, std::string> pod_names(const Agent& agent);

template <class Names, class Key>
std::string name_or_empty(const Names& names, const Key& key_of_name) {
  const auto found = names.find(key_of_name);
  return found == names.end() ? std::string() : found->second;
}

}  // namespace weir::weirctl
