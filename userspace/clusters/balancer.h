// Balancer picks an endpoint for one request. One per (source pod, cluster), so
// what it balances by is the load that this source put on each endpoint. Pure but
// for its random state.
#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "config/snapshot.h"

namespace weir::clusters {

// What outlier detection knows of an endpoint.
struct EndpointHealth {
  uint32_t errors_5xx = 0, gateway_errors = 0;  // in a row
  uint32_t ejections = 0;                       // lately: how often baseEjectionTime counts
  bool ejected = false;
  base::Instant ejected_at{};
};

// An endpoint as one source sees it.
struct EndpointState {
  config::Endpoint endpoint;
  uint32_t active_requests = 0;
  uint64_t requests = 0;
  // After a failed connect others are preferred until then.
  base::Instant avoid_until{};
  EndpointHealth health;
};

class Balancer {
 public:
  // ROUND_ROBIN begins anywhere, or the first endpoint would have the first request of every pod.
  explicit Balancer(uint64_t seed) : random_(seed | 1), turn_(static_cast<uint32_t>(random() >> 32)) {}

  // One of `endpoints` that is not in `tried`; null when there is none. Endpoints to be
  // avoided are picked only when all others are gone. LEAST_REQUEST is two random
  // choices, the one with fewer active requests (Envoy's default). Those left out leave
  // their share to all others alike.
  EndpointState* pick(config::LoadBalancing policy, std::span<EndpointState* const> endpoints,
                      std::span<const EndpointState* const> tried, base::Instant now);

 private:
  uint64_t random();
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>((random() >> 32) * bound >> 32); }

  uint64_t random_;
  uint32_t turn_;  // ROUND_ROBIN: whose it was last
};

// sessionAffinity ClientIP: one client's calls go to one endpoint as long as that can be picked and no pause between
// them is longer than the Service's timeout.
class Affinity {
 public:
  // Of `endpoints`; null: there is none, or it is to be avoided. Who has none gets the one that rendezvous hashing of
  // `client` gives: after a restart, and from every worker, the same.
  EndpointState* pick(uint64_t client, base::Duration timeout, std::span<EndpointState* const> endpoints,
                      base::Instant now);

 private:
  base::SocketAddress chosen_;
  base::Instant last_{};
};

}  // namespace weir::clusters
