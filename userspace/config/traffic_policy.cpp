#include "config/traffic_policy.h"

#include <algorithm>

namespace weir::config {

bool PolicyScope::covers(std::string_view namespace_name, const Labels& labels) const {
  if (!client_namespace.empty() && client_namespace != namespace_name) return false;
  if (!visible_to.empty() && std::find(visible_to.begin(), visible_to.end(), namespace_name) == visible_to.end())
    return false;
  return includes(labels, workload);
}

TrafficPolicy PolicyWithPorts::of_port(uint16_t port) const {
  for (const auto& [number, own] : ports) {
    if (number != port) continue;
    TrafficPolicy result = own;
    result.retry_budget = policy.retry_budget;
    return result;
  }
  return policy;
}

TrafficPolicy merged(const TrafficPolicy& base, const TrafficPolicy& over) {
  TrafficPolicy result = base;
  if (over.load_balancing) result.load_balancing = over.load_balancing;
  if (over.connection_pool) result.connection_pool = over.connection_pool;
  if (over.outlier_detection) result.outlier_detection = over.outlier_detection;
  if (over.tls) result.tls = over.tls;
  if (over.retry_budget) result.retry_budget = over.retry_budget;
  return result;
}

}  // namespace weir::config
