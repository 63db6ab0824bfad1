#include "routing/route.h"

namespace weir::routing {
namespace {

// The port of a destination: the one it names, else the service's only one, else the one that was dialled.
const config::ServicePort* port_of(const config::Service& service, const config::RouteDestination& destination,
                                   uint16_t dialled) {
  if (destination.port) return service.find_port(*destination.port);
  return service.ports.size() == 1 ? &service.ports.front() : service.find_port(dialled);
}

}  // namespace

Route route(const config::Snapshot& snapshot, const config::Service& service, const config::ServicePort& port,
            const Request& request, uint64_t random) {
  Route result;
  const config::VirtualService* governing = routing::governing(service.virtual_services, request.source_namespace);
  const config::ServicePort* target = &port;
  std::string_view subset;
  if (governing) {
    const Match matched = match(*governing, request);
    result.rule = matched.rule;
    result.match = matched.request;
    result.outcome = Route::Outcome::no_route;
    if (!result.rule) return result;
    result.outcome = Route::Outcome::direct_response;
    if (result.rule->direct_response) return result;
    result.outcome = Route::Outcome::no_cluster;
    result.destination = choose(result.rule->destinations, random);
    if (!result.destination) return result;
    subset = result.destination->subset;
    const config::Service* other = &service;
    if (result.destination->host != service.fqdn) {
      const auto* found = snapshot.service_named(result.destination->host);
      if (!found) return result;
      other = found->get();
    }
    target = port_of(*other, *result.destination, request.port);
    if (!target) return result;
  }
  result.cluster = target->cluster_for(subset, request.source_namespace, request.source_labels);
  if (result.cluster && *result.cluster) result.outcome = Route::Outcome::cluster;
  return result;
}

}  // namespace weir::routing
