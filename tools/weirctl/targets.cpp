#include "weirctl/targets.h"

#include "weir/admin_api.h"
#include "weirctl/maps_json.h"
#include "weirctl/names.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
namespace key = admin_api::key;

}  // namespace

base::Result<uint64_t> cookie_of(const interception::Maps& maps, const Settings& settings, const std::string& pod) {
  const auto rows = maps.pods();
  if (!rows) return rows.error();
  for (const auto& [cookie, row] : rows.value()) {
    if (pod == std::to_string(cookie)) return cookie;
    const json shown = to_json(cookie, row, false);
    for (const json& ip : shown[key::ips]) {
      if (ip == pod) return cookie;
    }
  }
  const auto known = Agent(settings.run_dir).get(admin_api::kPods);
  if (!known) {
    return base::Error{
        "the agent does not answer, so the pod must be given by its IP or netns cookie (`weirctl bpf "
        "pods` lists them): no row for " +
        pod};
  }
  const auto found = find_one(known.value().value(key::pods, json::array()), pod, settings.namespace_name, "pod");
  if (!found) return found.error();
  const uint64_t cookie = found.value().value(key::netns_cookie, uint64_t{0});
  if (cookie == 0) {
    return base::Error{"pod " + qualified_name(found.value()) + " is not diverted: it is " +
                       text_of(found.value(), key::state) + " " + text_of(found.value(), key::reason)};
  }
  return cookie;
}

std::vector<base::SocketAddress> addresses_of(const json& service, uint16_t port) {
  std::vector<base::SocketAddress> addresses;
  for (const json& candidate : service[key::ports]) {
    if (candidate[key::port] != port) continue;
    for (const json& vip : service[key::vips])
      if (const auto ip = base::IpAddress::parse(vip.get<std::string>())) addresses.push_back({*ip, port});
    // An earlier agent does not tell.
    for (const json& endpoint : candidate.value(key::endpoint_addresses, json::array())) {
      const auto parts = parse_service_port(endpoint.get<std::string>());
      const auto ip = parts ? base::IpAddress::parse(parts->service) : std::nullopt;
      if (ip) addresses.push_back({*ip, parts->port});
    }
  }
  return addresses;
}

base::Result<std::vector<base::SocketAddress>> addresses_of(const Settings& settings, const std::string& service_port) {
  const auto name = parse_service_port(service_port);
  if (!name) return base::Error{"'" + service_port + "' is not SERVICE:PORT"};
  if (const auto ip = base::IpAddress::parse(name->service)) return std::vector{base::SocketAddress{*ip, name->port}};
  const auto dump = Agent(settings.run_dir).get(admin_api::kServices);
  if (!dump) {
    return base::Error{
        "the agent does not answer, so the service must be given by its ClusterIP (`weirctl bpf "
        "services` lists them), as in 10.96.0.10:50051"};
  }
  const auto found =
      find_one(dump.value().value(key::services, json::array()), name->service, settings.namespace_name, "service");
  if (!found) return found.error();
  auto addresses = addresses_of(found.value(), name->port);
  if (addresses.empty())
    return base::Error{"service " + qualified_name(found.value()) + " has no address that is diverted for port " +
                       std::to_string(name->port)};
  return addresses;
}

std::map<std::string, std::string> service_names(const json& services) {
  std::map<std::string, std::string> names;
  for (const json& service : services)
    for (const json& port : service[key::ports])
      for (const base::SocketAddress& address : addresses_of(service, port[key::port]))
        names.emplace(address.to_string(), qualified_name(service));
  return names;
}

std::map<std::string, std::string> service_names(const Agent& agent) {
  const auto dump = agent.get(admin_api::kServices);
  if (!dump) return {};
  return service_names(dump.value().value(key::services, json::array()));
}

std::map<uint64_t, std::string> pod_names(const Agent& agent) {
  std::map<uint64_t, std::string> names;
  const auto pods = agent.get(admin_api::kPods);
  if (!pods) return names;
  for (const json& pod : pods.value().value(key::pods, json::array())) {
    const uint64_t cookie = pod.value(key::netns_cookie, uint64_t{0});
    if (cookie != 0) names[cookie] = qualified_name(pod);
  }
  return names;
}

}  // namespace weir::weirctl
