// Where a request goes: the one question that an exchange asks of the configuration. Pure.
#pragma once

#include "config/snapshot.h"
#include "routing/match.h"

namespace weir::routing {

struct Route {
  enum class Outcome : uint8_t {
    cluster,          // to `cluster`
    direct_response,  // `rule` has the answer
    no_route,         // a VirtualService governs the service, but no rule matches (NR)
    no_cluster,       // the rule's service or subset does not exist for this client (NC)
  };
  Outcome outcome = Outcome::no_cluster;
  const config::RouteRule* rule = nullptr;                // null: no VirtualService governs the service
  const config::RequestMatch* match = nullptr;            // of `rule`; null: it matches everything
  const config::RouteDestination* destination = nullptr;  // of `rule`
  const std::shared_ptr<const config::Cluster>* cluster = nullptr;
};

// `service` and `port` were dialled. What is returned points into `snapshot` and `service`. `random` is uniform.
Route route(const config::Snapshot& snapshot, const config::Service& service, const config::ServicePort& port,
            const Request& request, uint64_t random);

}  // namespace weir::routing
