// Outlier detection (networking.istio.io OutlierDetection; Envoy's consecutive 5xx and gateway failures): an endpoint
// that fails one call after the other is left alone for a while. Pure: what is counted is part of EndpointState.
#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "clusters/balancer.h"
#include "config/traffic_policy.h"

namespace weir::clusters {

// The HTTP status that an attempt counts as: that of its gRPC status (-1: none) where it has one. In trailers it counts
// like in Trailers-Only.
int counted_status(int http_status, int grpc_status);

// An attempt on `endpoint`, one of `all`, has ended with what counts as `status`. True: it is ejected now.
bool count_attempt(const config::OutlierDetection& policy, EndpointState& endpoint, int status,
                   std::span<const EndpointState* const> all, base::Instant now);

// Once an interval, as long as one of the endpoints is recovering(). True: `endpoint` has returned.
bool recover(const config::OutlierDetection& policy, EndpointState& endpoint, base::Instant now);
inline bool recovering(const EndpointState& endpoint) { return endpoint.health.ejections > 0; }

// So few of `all` are not ejected that all are used (minHealthPercent).
bool panics(const config::OutlierDetection& policy, size_t healthy, size_t all);

}  // namespace weir::clusters
