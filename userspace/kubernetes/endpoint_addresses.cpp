// The addresses of endpoints at which headless Services are dialled.
#include <unordered_set>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

bool is_from_file(const Slices& slices) {
  return std::none_of(slices.begin(), slices.end(), [](const auto& s) { return s->metadata.origin.file.empty(); });
}

// By the controller that corrects it if somebody else changes it. Of a Service without a selector it leaves all alone.
bool is_made_by_kubernetes(const Service& service, const EndpointSlice& slice) {
  const auto manager = slice.metadata.labels.find("endpointslice.kubernetes.io/managed-by");
  return !service.selector.empty() && manager != slice.metadata.labels.end() &&
         manager->second == "endpointslice-controller.k8s.io";
}

// Addresses that are believed to be pods of the Service's namespace as long as nothing else is known of them.
std::unordered_set<base::IpAddress> believed(const Service& service, const Slices& slices) {
  std::unordered_set<base::IpAddress> addresses;
  const bool from_file = is_from_file(slices);
  for (const auto& slice : slices) {
    if (!from_file && !is_made_by_kubernetes(service, *slice)) continue;
    for (const SliceEndpoint& endpoint : slice->endpoints)
      if (from_file || !endpoint.pod.empty()) addresses.insert(endpoint.addresses.front());
  }
  return addresses;
}

}  // namespace

std::string to_string(const LostAddresses& lost) {
  std::string text = lost.first.to_string();
  if (lost.count > 1) text += " and " + std::to_string(lost.count - 1) + " more";
  return text;
}

void add_endpoint_addresses(const Service& service, const Slices& slices, const config::PodsByAddress& pods,
                            config::Service& result, std::vector<config::Finding>& findings) {
  const auto trusted = believed(service, slices);
  const auto is_own = [&](const base::IpAddress& ip) {
    const auto pod = pods.find(ip);
    if (pod != pods.end()) return pod->second->namespace_name == result.namespace_name;
    return trusted.contains(ip);
  };
  LostAddresses foreign, beyond;
  size_t taken = 0;
  for (config::ServicePort& port : result.ports) {
    if (port.protocol == config::Protocol::not_tcp) continue;
    for (const config::Endpoint& endpoint : port.cluster->endpoints) {
      if (!is_own(endpoint.address.ip)) {
        foreign.add(endpoint.address);
      } else if (taken == kMostEndpointAddresses) {
        beyond.add(endpoint.address);
      } else {
        port.endpoint_addresses.push_back(endpoint.address);
        ++taken;
      }
    }
  }
  const auto report = [&](Code code, std::string message, std::string fix) {
    const ObjectKey key{Kind::service, service.metadata.namespace_name, service.metadata.name};
    findings.push_back(finding(code, service.metadata.origin, key.to_string(), std::move(message), std::move(fix)));
  };
  if (foreign.count > 0)
    report(Code::foreign_endpoint,
           "connections to its endpoints' addresses " + to_string(foreign) +
               " are not diverted: nothing says that they are pods of namespace " + result.namespace_name,
           "let a selector choose its pods, so that Kubernetes makes its EndpointSlices");
  if (beyond.count > 0)
    report(Code::too_many_addresses,
           "has more than " + std::to_string(kMostEndpointAddresses) + " addresses: connections to " +
               to_string(beyond) + " are not diverted",
           "give it a clusterIP and let clients dial that");
}

EndpointPlaces place_endpoints(const config::Snapshot& snapshot) {
  EndpointPlaces out;
  for (uint32_t i = 0; i < snapshot.services.size(); ++i) {
    snapshot.services[i]->for_each_endpoint_address([&](const base::SocketAddress& address, uint32_t port) {
      const auto lose_to = [&](const config::Directory::Place& holder) {
        if (holder.service == i) return;
        LostAddresses& lost = out.conflicts[{i, holder.service}];
        lost.of_endpoints = true;
        lost.add(address);
      };
      const auto vip = snapshot.directory->by_address.find(address);
      if (vip != snapshot.directory->by_address.end()) return lose_to(vip->second);
      const auto known = out.places.find(address);
      if (known != out.places.end()) return lose_to(known->second);
      if (out.places.size() == kMostEndpointAddressesOfAll) return out.beyond[i].add(address);
      out.places.emplace(address, config::Directory::Place{i, port});
    });
  }
  return out;
}

}  // namespace weir::kubernetes
