// What a DestinationRule asks for (networking.istio.io/v1 DestinationRule, trafficPolicy). Immutable once it is part of
// a Snapshot. What is absent has Istio's default; a limit that is absent or zero is kNoLimit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "config/labels.h"

namespace weir::config {

inline constexpr uint32_t kNoLimit = UINT32_MAX;

enum class LoadBalancing : uint8_t { least_request, round_robin, random };

// ConnectionPoolSettings.TCPSettings.TcpKeepalive. Zero: as the kernel has it.
struct TcpKeepalive {
  uint32_t probes = 0;
  base::Duration time{};  // of silence before the first probe; whole seconds, as is the interval
  base::Duration interval{};
  bool operator==(const TcpKeepalive&) const = default;
};

// ConnectionPoolSettings. Counted for each source pod, per service port and subset.
struct ConnectionPool {
  uint32_t max_connections = kNoLimit;
  uint32_t max_pending_requests = kNoLimit;  // http1MaxPendingRequests: that wait for a connection
  uint32_t max_requests = kNoLimit;          // http2MaxRequests: under way
  uint32_t max_requests_per_connection = kNoLimit;
  uint32_t max_retries = kNoLimit;  // under way
  uint32_t max_concurrent_streams = kNoLimit;
  base::Duration connect_timeout = std::chrono::seconds(10);
  base::Duration idle_timeout = std::chrono::hours(1);      // of a connection without streams; zero: none
  base::Duration tcp_idle_timeout = std::chrono::hours(1);  // of a relayed connection; zero: none
  std::optional<base::Duration> max_connection_duration;
  std::optional<TcpKeepalive> tcp_keepalive;
  bool operator==(const ConnectionPool&) const = default;
};

// OutlierDetection. Absent in a policy: off.
struct OutlierDetection {
  uint32_t consecutive_gateway_errors = 0;  // 0: off
  uint32_t consecutive_5xx_errors = 5;      // 0: off
  base::Duration interval = std::chrono::seconds(10);
  base::Duration base_ejection_time = std::chrono::seconds(30);
  uint32_t max_ejection_percent = 10;
  uint32_t min_health_percent = 0;
  bool operator==(const OutlierDetection&) const = default;
};

// TrafficPolicy.retryBudget: retries under way at a time, of the active requests.
struct RetryBudget {
  double percent = 20;
  uint32_t min_retry_concurrency = 3;
  bool operator==(const RetryBudget&) const = default;
};

enum class UpstreamTls : uint8_t { disable, simple, mutual, istio_mutual };

// One trafficPolicy block; what is absent is inherited.
struct TrafficPolicy {
  std::optional<LoadBalancing> load_balancing;
  std::optional<ConnectionPool> connection_pool;
  std::optional<OutlierDetection> outlier_detection;
  std::optional<UpstreamTls> tls;
  std::optional<RetryBudget> retry_budget;
  bool operator==(const TrafficPolicy&) const = default;
};

// A block with those of its ports, each of which replaces it wholesale but for the retry budget.
struct PolicyWithPorts {
  TrafficPolicy policy;
  std::vector<std::pair<uint16_t, TrafficPolicy>> ports;
  // For `port`: what it says, block by block, over `inherited`. What it says of that very port inherits nothing.
  TrafficPolicy of_port(uint16_t port, const TrafficPolicy& inherited = {}) const;
  bool operator==(const PolicyWithPorts&) const = default;
};

struct Subset {
  std::string name;
  Labels labels;
  PolicyWithPorts policy;
  bool operator==(const Subset&) const = default;
};

// Which clients a policy is for.
struct PolicyScope {
  std::string client_namespace;         // empty: of all namespaces
  std::vector<std::string> visible_to;  // namespaces (exportTo); empty: all
  Labels workload;                      // labels of the client pod
  bool covers(std::string_view namespace_name, const Labels& labels) const;
  bool operator==(const PolicyScope&) const = default;
};

// The DestinationRules of one namespace for one host, merged.
struct ServicePolicy {
  PolicyScope scope;
  PolicyWithPorts policy;
  std::vector<Subset> subsets;
  bool operator==(const ServicePolicy&) const = default;
};

}  // namespace weir::config
