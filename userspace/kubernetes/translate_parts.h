// The steps of a translation: services with their endpoints, and pods. Pure.
// Included by the translation's sources only.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "kubernetes/findings.h"
#include "kubernetes/translate.h"
#include "kubernetes/translate_istio.h"

namespace weir::kubernetes {

inline std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Calls f with each entry of an annotation's list, "a, b,c"; empty ones are left out.
template <class F>
void for_each_entry(std::string_view list, F&& f) {
  while (!list.empty()) {
    const std::string_view entry = list.substr(0, list.find(','));
    list.remove_prefix(std::min(entry.size() + 1, list.size()));
    if (!trimmed(entry).empty()) f(trimmed(entry));
  }
}

// Of a vector sorted by namespace and name; null if there is none.
template <class T>
std::shared_ptr<const T> find_previous(const std::vector<std::shared_ptr<const T>>* objects, const Metadata& metadata) {
  if (!objects) return nullptr;
  auto name = std::tie(metadata.namespace_name, metadata.name);
  auto found = std::lower_bound(objects->begin(), objects->end(), name, [](const auto& object, const auto& wanted) {
    return std::tie(object->namespace_name, object->name) < wanted;
  });
  if (found == objects->end() || std::tie((*found)->namespace_name, (*found)->name) != name) return nullptr;
  return *found;
}

// "greeter.default.svc.cluster.local"
std::string fqdn_of(const Service& service, const ClusterSettings& settings);

bool same_port(const ServicePort& port, const SlicePort& candidate);
bool any_hints(const Slices& slices);

// Which endpoints new calls may go to, kube-proxy's duties: readiness, terminating endpoints as the last resort,
// publishNotReadyAddresses, internalTrafficPolicy Local, hints for nodes and zones (trafficDistribution), duplicates
// in several slices. Each of the Service's IP families by itself. Sorted by address.
std::vector<config::Endpoint> choose_endpoints(const Service& service, const ServicePort& port, const Slices& slices,
                                               const ClusterSettings& settings);

struct ModeChoice {
  config::Mode mode = config::Mode::none;
  std::string reason;       // empty: as the protocol has it
  bool shapes_tcp = false;  // a DestinationRule means something to connections of any protocol
};

// How a port's connections are taken: as its protocol has it (config::default_mode), unless the Service's annotation
// weir.dev/detect or a DestinationRule says otherwise.
ModeChoice choose_mode(const Service& service, const ServicePort& port, config::Protocol protocol,
                       std::span<const config::ServicePolicy> policies, const ClusterSettings& settings);
// What is wrong with that annotation.
void report_detect_annotation(const Service& service, std::vector<config::Finding>& findings);

// The labels of the pod behind an endpoint of the service; null if that pod is not known.
using LabelsOf = std::function<const Labels*(const config::Endpoint& endpoint)>;
LabelsOf labels_in(const ObjectStore& store, const Service& service, const config::PodsByAddress& pods);

// A service with new clusters; what equals `previous` (which may be null) is shared with it.
std::shared_ptr<const config::Service> translate_service(const Service& service, const Slices& slices,
                                                         const ClusterSettings& settings, const IstioRules& rules,
                                                         const LabelsOf& labels_of, const config::PodsByAddress& pods,
                                                         const std::shared_ptr<const config::Service>& previous,
                                                         std::vector<config::Finding>& findings);

// The addresses at which a headless Service is dialled (ServicePort::endpoint_addresses), at most
// kMostEndpointAddresses: those of its clusters' endpoints that are pods of its own namespace, so that nobody diverts
// what is meant for others. The pods of this node are known by their addresses; of other nodes' Kubernetes's own
// controller is believed, which makes the slices of a Service with a selector and corrects what others write into
// them. Files are the operator's: what they say is as good, unless a pod is known to be another namespace's.
void add_endpoint_addresses(const Service& service, const Slices& slices, const config::PodsByAddress& pods,
                            config::Service& result, std::vector<config::Finding>& findings);
inline constexpr size_t kMostEndpointAddresses = 1000;        // of a Service
inline constexpr size_t kMostEndpointAddressesOfAll = 16384;  // a quarter of the BPF map: VIPs find room in it

// Addresses that a Service does not get.
struct LostAddresses {
  base::SocketAddress first;
  size_t count = 0;
  bool of_endpoints = false;  // else VIPs
  void add(const base::SocketAddress& address) {
    if (count++ == 0) first = address;
  }
};
std::string to_string(const LostAddresses& lost);  // "10.0.0.1:80 and 3 more"
struct EndpointPlaces {
  config::Directory::Places places;                                  // Snapshot::by_endpoint
  std::map<std::pair<uint32_t, uint32_t>, LostAddresses> conflicts;  // by the Service's place and the holder's
  std::map<uint32_t, LostAddresses> beyond;                          // kMostEndpointAddressesOfAll
};
// Whose the endpoints' addresses are: nobody's that are a VIP, and then the first Service's by name.
EndpointPlaces place_endpoints(const config::Snapshot& snapshot);

// The pods of this node, sorted, and those of all nodes by their addresses. `previous` may be null: what equals its
// pods is shared with it.
std::pair<std::vector<std::shared_ptr<const config::Pod>>, std::shared_ptr<const config::PodsByAddress>> translate_pods(
    const ObjectStore& store, const ClusterSettings& settings, const config::Snapshot* previous,
    std::vector<config::Finding>& findings);

// `home` is the pod's Namespace object, null if there is none.
config::Pod translate_pod(const Pod& pod, const Namespace* home, std::vector<config::Finding>& findings);

}  // namespace weir::kubernetes
