// The steps of a translation: services with their endpoints, and pods. Pure.
// Included by the translation's sources only.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "kubernetes/findings.h"
#include "kubernetes/translate.h"
#include "kubernetes/translate_istio.h"

namespace weir::kubernetes {

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

// The labels of the pod behind an endpoint of the service; null if that pod is not known.
using LabelsOf = std::function<const Labels*(const config::Endpoint& endpoint)>;
LabelsOf labels_in(const ObjectStore& store, const Service& service, const config::PodsByAddress& pods);

// A service with new clusters; what equals `previous` (which may be null) is shared with it.
std::shared_ptr<const config::Service> translate_service(const Service& service, const Slices& slices,
                                                         const ClusterSettings& settings, const IstioRules& rules,
                                                         const LabelsOf& labels_of,
                                                         const std::shared_ptr<const config::Service>& previous,
                                                         std::vector<config::Finding>& findings);

// The pods of this node, sorted, and those of all nodes by their addresses. `previous` may be null: what equals its
// pods is shared with it.
std::pair<std::vector<std::shared_ptr<const config::Pod>>, std::shared_ptr<const config::PodsByAddress>> translate_pods(
    const ObjectStore& store, const ClusterSettings& settings, const config::Snapshot* previous,
    std::vector<config::Finding>& findings);

// `home` is the pod's Namespace object, null if there is none.
config::Pod translate_pod(const Pod& pod, const Namespace* home, std::vector<config::Finding>& findings);

}  // namespace weir::kubernetes
