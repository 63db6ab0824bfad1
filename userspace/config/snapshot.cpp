#include "config/snapshot.h"

namespace weir::config {

Mode ServicePort::diverted_mode() const {
  if (mode == Mode::detect && !divert_undeclared) return Mode::none;
  // A VIP without endpoints is rejected by kube-proxy. Only a port that is known to carry
  // HTTP/2 gets a better answer from the agent (UH).
  if (mode != Mode::l7 && (!cluster || cluster->endpoints.empty())) return Mode::none;
  return mode;
}

const ServicePort* Service::find_port(uint16_t port) const {
  for (const ServicePort& candidate : ports) {
    if (candidate.port == port && candidate.protocol != Protocol::not_tcp) return &candidate;
  }
  return nullptr;
}

}  // namespace weir::config
