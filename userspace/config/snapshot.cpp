#include "config/snapshot.h"

namespace weir::config {

Mode ServicePort::diverted_mode() const {
  // A VIP without endpoints is rejected by kube-proxy. Only a port that is known to carry
  // HTTP/2 gets a better answer from the agent (UH).
  if (mode != Mode::l7 && (!cluster || cluster->endpoints.empty())) return Mode::none;
  return mode;
}

const std::shared_ptr<const Cluster>* ServicePort::cluster_for(std::string_view subset,
                                                               std::string_view client_namespace,
                                                               const Labels& client_labels) const {
  for (const ClusterView& view : views) {
    if (!view.scope.covers(client_namespace, client_labels)) continue;
    if (subset.empty()) return &view.cluster;
    const auto found = view.subsets.find(subset);
    return found == view.subsets.end() ? nullptr : &found->second;
  }
  return subset.empty() ? &cluster : nullptr;
}

bool Service::has_subset(std::string_view subset) const {
  for (const ServicePort& port : ports)
    for (const ClusterView& view : port.views)
      if (view.subsets.contains(subset)) return true;
  return false;
}

const ServicePort* Service::find_port(uint16_t port) const {
  for (const ServicePort& candidate : ports) {
    if (candidate.port == port && candidate.protocol != Protocol::not_tcp) return &candidate;
  }
  return nullptr;
}

Snapshot::Dialled Snapshot::at(const base::SocketAddress& address) const {
  auto found = directory->by_address.find(address);
  if (found == directory->by_address.end()) {
    found = by_endpoint->find(address);
    if (found == by_endpoint->end()) return {};
  }
  const std::shared_ptr<const Service>& service = services[found->second.service];
  return {&service, &service->ports[found->second.port]};
}

const std::shared_ptr<const Service>* Snapshot::service_named(const std::string& fqdn) const {
  const auto found = directory->by_host.find(fqdn);
  return found == directory->by_host.end() ? nullptr : &services[found->second];
}

}  // namespace weir::config
