#include <algorithm>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

using config::Endpoint;

// A slice's endpoint that has the port, and what is said of it.
struct Candidate {
  Endpoint address;
  const SliceEndpoint* said;
  bool ready;
};

// kube-proxy has one table a family: what a Service does not have an address of it does not have endpoints of.
bool has_family(const Service& service, AddressFamily family) {
  if (!service.ip_families.empty())
    return std::find(service.ip_families.begin(), service.ip_families.end(), family) != service.ip_families.end();
  return service.cluster_ips.empty() ||
         std::any_of(service.cluster_ips.begin(), service.cluster_ips.end(),
                     [&](const base::IpAddress& ip) { return ip.is_v4() == (family == AddressFamily::ipv4); });
}

bool names(const std::vector<std::string>& hints, const std::string& own) {
  return std::find(hints.begin(), hints.end(), own) != hints.end();
}

// Keeps those that are hinted at for `own`, if all of them have a hint and one is for it; else all. As kube-proxy: a
// hint that is missing means that the slices are being rewritten.
bool keep_hinted(std::vector<Candidate>& candidates, const std::string& own,
                 std::vector<std::string> SliceEndpoint::*hints) {
  if (own.empty()) return false;
  const bool all_hinted =
      std::none_of(candidates.begin(), candidates.end(), [&](const Candidate& c) { return (c.said->*hints).empty(); });
  const auto meant = [&](const Candidate& c) { return names(c.said->*hints, own); };
  if (!all_hinted || std::none_of(candidates.begin(), candidates.end(), meant)) return false;
  std::erase_if(candidates, [&](const Candidate& c) { return !meant(c); });
  return true;
}

std::vector<Candidate> of_family(AddressFamily family, const Service& service, const ServicePort& port,
                                 const Slices& slices, const ClusterSettings& settings) {
  const AddressType type = family == AddressFamily::ipv4 ? AddressType::ipv4 : AddressType::ipv6;
  const bool local_only = service.internal_traffic_policy_local && !settings.node_name.empty();
  std::vector<Candidate> candidates;
  for (const auto& slice : slices) {
    if (slice->address_type != type) continue;
    for (const SlicePort& slice_port : slice->ports) {
      if (!same_port(port, slice_port)) continue;
      for (const SliceEndpoint& endpoint : slice->endpoints) {
        if (local_only && endpoint.node_name != settings.node_name) continue;
        candidates.push_back({{{endpoint.addresses.front(), *slice_port.port}, endpoint.pod, endpoint.node_name},
                              &endpoint,
                              endpoint.ready || service.publish_not_ready_addresses});
      }
    }
  }
  // The stage of the last resort is for the whole port.
  if (std::none_of(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.ready; })) {
    std::erase_if(candidates, [](const Candidate& c) { return !c.said->serving || !c.said->terminating; });
    return candidates;
  }
  std::erase_if(candidates, [](const Candidate& c) { return !c.ready; });
  if (!local_only && !keep_hinted(candidates, settings.node_name, &SliceEndpoint::node_hints))
    keep_hinted(candidates, settings.zone, &SliceEndpoint::zone_hints);
  return candidates;
}

}  // namespace

bool same_port(const ServicePort& port, const SlicePort& candidate) {
  return candidate.name == port.name && candidate.protocol == port.protocol && candidate.port.has_value();
}

bool any_hints(const Slices& slices) {
  return std::any_of(slices.begin(), slices.end(), [](const auto& slice) {
    return std::any_of(slice->endpoints.begin(), slice->endpoints.end(),
                       [](const SliceEndpoint& e) { return !e.zone_hints.empty() || !e.node_hints.empty(); });
  });
}

std::vector<Endpoint> choose_endpoints(const Service& service, const ServicePort& port, const Slices& slices,
                                       const ClusterSettings& settings) {
  std::vector<Endpoint> chosen;
  for (const AddressFamily family : {AddressFamily::ipv4, AddressFamily::ipv6}) {
    if (!has_family(service, family)) continue;
    for (Candidate& candidate : of_family(family, service, port, slices, settings))
      chosen.push_back(std::move(candidate.address));
  }
  // While an endpoint moves between slices it is in both; one chosen copy is enough.
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const Endpoint& a, const Endpoint& b) { return a.address < b.address; });
  const auto last = std::unique(chosen.begin(), chosen.end(),
                                [](const Endpoint& a, const Endpoint& b) { return a.address == b.address; });
  chosen.erase(last, chosen.end());
  return chosen;
}

}  // namespace weir::kubernetes
