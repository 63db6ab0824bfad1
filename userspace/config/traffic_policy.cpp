#include "config/traffic_policy.h"

#include <algorithm>

namespace weir::config {

bool PolicyScope::covers(std::string_view namespace_name, const Labels& labels) const {
  if (!client_namespace.empty() && client_namespace != namespace_name) return false;
  if (!visible_to.empty() && std::find(visible_to.begin(), visible_to.end(), namespace_name) == visible_to.end())
    return false;
  return includes(labels, workload);
}

TrafficPolicy PolicyWithPorts::of_port(uint16_t port, const TrafficPolicy& inherited) const {
  TrafficPolicy result = inherited;
  for (const auto& [number, own] : ports) {
    if (number != port) continue;
    result = own;
    result.retry_budget = policy.retry_budget ? policy.retry_budget : inherited.retry_budget;
    return result;
  }
  if (policy.load_balancing) result.load_balancing = policy.load_balancing;
  if (policy.connection_pool) result.connection_pool = policy.connection_pool;
  if (policy.outlier_detection) result.outlier_detection = policy.outlier_detection;
  if (policy.tls) result.tls = policy.tls;
  if (policy.retry_budget) result.retry_budget = policy.retry_budget;
  return result;
}

}  // namespace weir::config
