#include "clusters/outlier_detection.h"

#include <algorithm>

namespace weir::clusters {
namespace {

// Envoy's max_ejection_time, which Istio leaves at its default.
constexpr base::Duration kLongestEjection = std::chrono::seconds(300);

bool is_5xx(int status) { return status >= 500 && status <= 599; }
bool is_gateway_error(int status) { return status >= 502 && status <= 504; }

bool may_eject(const config::OutlierDetection& policy, std::span<const EndpointState* const> all) {
  const auto ejected =
      static_cast<size_t>(std::count_if(all.begin(), all.end(), [](const auto* e) { return e->health.ejected; }));
  return ejected == 0 || (ejected + 1) * 100 <= policy.max_ejection_percent * all.size();
}

}  // namespace

int counted_status(int http_status, int grpc_status) {
  switch (grpc_status) {
    case -1:
      return http_status;
    case 2:
    case 13:
    case 15:
      return 500;
    case 12:
      return 501;
    case 14:
      return 503;
    case 4:
      return 504;
    default:
      return 200;
  }
}

bool count_attempt(const config::OutlierDetection& policy, EndpointState& endpoint, int status,
                   std::span<const EndpointState* const> all, base::Instant now) {
  EndpointHealth& health = endpoint.health;
  health.errors_5xx = is_5xx(status) ? health.errors_5xx + 1 : 0;
  health.gateway_errors = is_gateway_error(status) ? health.gateway_errors + 1 : 0;
  const auto reached = [](uint32_t errors, uint32_t limit) { return limit > 0 && errors >= limit; };
  if (!reached(health.errors_5xx, policy.consecutive_5xx_errors) &&
      !reached(health.gateway_errors, policy.consecutive_gateway_errors))
    return false;
  if (health.ejected || !may_eject(policy, all)) return false;
  health.ejected = true;
  health.ejected_at = now;
  ++health.ejections;
  health.errors_5xx = health.gateway_errors = 0;
  return true;
}

bool recover(const config::OutlierDetection& policy, EndpointState& endpoint, base::Instant now) {
  EndpointHealth& health = endpoint.health;
  if (!health.ejected) {
    if (health.ejections > 0) --health.ejections;
    return false;
  }
  const base::Duration longest = std::max(policy.base_ejection_time, kLongestEjection);
  const bool no_longer = policy.base_ejection_time >= longest / health.ejections;
  if (now - health.ejected_at < (no_longer ? longest : policy.base_ejection_time * health.ejections)) return false;
  health.ejected = false;
  health.errors_5xx = health.gateway_errors = 0;
  return true;
}

bool panics(const config::OutlierDetection& policy, size_t healthy, size_t all) {
  return healthy * 100 < policy.min_health_percent * all;
}

}  // namespace weir::clusters
