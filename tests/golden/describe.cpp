#include "describe.h"

#include <array>
#include <string>

#include "config/duration.h"
#include "routing/retry.h"

namespace weir::golden {
namespace {

using nlohmann::json;

json limit(uint32_t value) { return value == config::kNoLimit ? json("none") : json(value); }

struct RetryName {
  config::RetryOn condition;
  const char* name;
};
constexpr std::array<RetryName, 13> kRetryNames{{
    {config::RetryOn::cancelled, "cancelled"},
    {config::RetryOn::deadline_exceeded, "deadline-exceeded"},
    {config::RetryOn::internal, "internal"},
    {config::RetryOn::resource_exhausted, "resource-exhausted"},
    {config::RetryOn::unavailable, "unavailable"},
    {config::RetryOn::connect_failure, "connect-failure"},
    {config::RetryOn::refused_stream, "refused-stream"},
    {config::RetryOn::reset, "reset"},
    {config::RetryOn::reset_before_request, "reset-before-request"},
    {config::RetryOn::http_5xx, "5xx"},
    {config::RetryOn::gateway_error, "gateway-error"},
    {config::RetryOn::retriable_4xx, "retriable-4xx"},
}};

json retry_on(const config::RetryPolicy& policy) {
  json names = json::array();
  for (const RetryName& name : kRetryNames)
    if (policy.has(name.condition)) names.push_back(name.name);
  for (const uint16_t status : policy.status_codes) names.push_back(status);
  return names;
}

// Whether another attempt follows a first one that ended so.
json after(const config::RetryPolicy& policy, std::string_view path) {
  using How = routing::AttemptEnd::How;
  routing::RetryState state;
  state.begin(policy, path);
  json result;
  const auto judge = [&](const std::string& name, const routing::AttemptEnd& end) {
    result[name] = state.judge(end) == routing::RetryState::Verdict::again ? "again" : "never";
  };
  judge("connect-failure", {How::connection_failed, 0, -1, false});
  judge("refused-stream", {How::refused, 0, -1, true});
  judge("reset before request", {How::reset, 0, -1, false});
  judge("reset", {How::reset, 0, -1, true});
  judge("per-try timeout", {How::try_timeout, 0, -1, true});
  for (const int status : {0, 1, 2, 4, 5, 8, 10, 13, 14})
    judge("grpc " + std::to_string(status), {How::response, 200, status, true});
  for (const int status : {400, 404, 409, 429, 500, 501, 502, 503, 504})
    judge("http " + std::to_string(status), {How::response, status, -1, true});
  return result;
}

json to_json(const config::ConnectionPool& pool) {
  const auto keepalive = pool.tcp_keepalive.value_or(config::TcpKeepalive());
  return {{"maxConnections", limit(pool.max_connections)},
          {"connectTimeout", config::to_string(pool.connect_timeout)},
          {"idleTimeout", config::to_string(pool.idle_timeout)},
          {"maxConnectionDuration", text_of(pool.max_connection_duration)},
          {"tcpKeepalive", pool.tcp_keepalive.has_value() ? json{{"probes", keepalive.probes},
                                                                 {"time", config::to_string(keepalive.time)},
                                                                 {"interval", config::to_string(keepalive.interval)}}
                                                          : json("none")},
          {"http1MaxPendingRequests", limit(pool.max_pending_requests)},
          {"http2MaxRequests", limit(pool.max_requests)},
          {"maxRequestsPerConnection", limit(pool.max_requests_per_connection)},
          {"maxRetries", limit(pool.max_retries)},
          {"maxConcurrentStreams", limit(pool.max_concurrent_streams)}};
}

json to_json(const std::optional<config::OutlierDetection>& outliers) {
  if (!outliers) return "none";
  return {{"consecutiveGatewayErrors", outliers->consecutive_gateway_errors},
          {"consecutive5xxErrors", outliers->consecutive_5xx_errors},
          {"interval", config::to_string(outliers->interval)},
          {"baseEjectionTime", config::to_string(outliers->base_ejection_time)},
          {"maxEjectionPercent", outliers->max_ejection_percent},
          {"minHealthPercent", outliers->min_health_percent}};
}

json to_json(const std::optional<config::RetryBudget>& budget) {
  if (!budget) return "none";
  return {{"percent", budget->percent}, {"minRetryConcurrency", budget->min_retry_concurrency}};
}

}  // namespace

std::string text_of(const std::optional<base::Duration>& duration) {
  return duration ? config::to_string(*duration) : "none";
}

void describe(const config::Cluster& cluster, json& into) {
  constexpr std::array kBalancing = {"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"};
  into["cluster"] = cluster.name;
  into["subset"] = cluster.subset.empty() ? "none" : cluster.subset;
  into["endpoints"] = json::array();
  for (const config::Endpoint& endpoint : cluster.endpoints) into["endpoints"].push_back(endpoint.address.to_string());
  into["load_balancing"] = kBalancing.at(static_cast<size_t>(cluster.load_balancing));
  into["session_affinity"] = text_of(cluster.session_affinity);
  into["pool"] = to_json(cluster.connection_pool);
  into["outliers"] = to_json(cluster.outlier_detection);
  into["retry_budget"] = to_json(cluster.retry_budget);
  into["tls"] = cluster.tls_wanted ? "fails" : "plaintext";
}

void describe(const config::RetryPolicy& policy, std::string_view path, json& into) {
  const auto number = [](uint32_t count, const char* one, const char* many) {
    return std::to_string(count) + " " + (count == 1 ? one : many);
  };
  into["retries"] = number(policy.attempts, "retry", "retries") + ", " + number(policy.attempts + 1, "try", "tries");
  into["per_try_timeout"] = text_of(policy.per_try_timeout);
  into["retry_on"] = retry_on(policy);
  into["after"] = after(policy, path);
  into["backoff"] = policy.backoff ? config::to_string(*policy.backoff) : "default";
  into["previous_hosts"] = policy.ignore_previous_hosts ? "avoided" : "allowed";
}

}  // namespace weir::golden
