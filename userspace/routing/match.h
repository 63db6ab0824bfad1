// Which rule of which VirtualService a request meets, and which of the rule's destinations it goes to. Pure.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "config/routes.h"
#include "http/headers.h"

namespace weir::routing {

// What is known of a request when it is routed.
struct Request {
  const http::Headers& headers;
  uint16_t port = 0;  // dialled
  const config::Labels& source_labels;
  std::string_view source_namespace;
};

// The first rule that matches, and by which of its matches; no rule: none does (flag NR).
struct Match {
  const config::RouteRule* rule = nullptr;
  const config::RequestMatch* request = nullptr;  // null: the rule matches every request
};
Match match(const config::VirtualService& service, const Request& request);

// A destination, each as often as its weight says if `random` is uniform. Null if there is none.
const config::RouteDestination* choose(std::span<const config::RouteDestination> destinations, uint64_t random);

// Of those that name a service, the best first, the one that clients of that namespace are governed by; null: none.
const config::VirtualService* governing(std::span<const std::shared_ptr<const config::VirtualService>> candidates,
                                        std::string_view client_namespace);

}  // namespace weir::routing
