// DestinationRule (networking.istio.io): traffic policies and subsets. What weir does not apply yet is a finding.
#include <algorithm>

#include "kubernetes/decode_istio.h"
#include "kubernetes/decode_kinds.h"

namespace weir::kubernetes {
namespace {

using config::TrafficPolicy;
using nlohmann::json;

constexpr auto kLeastKeepalive = std::chrono::seconds(1);
constexpr int64_t kMostProbes = 127;  // tcp(7), TCP_KEEPCNT

// Absent or zero is no limit.
uint32_t decode_limit(ObjectReader& reader, const json& fields, const char* key) {
  const auto value = reader.integer(fields, key, 0, INT32_MAX);
  return value && *value > 0 ? static_cast<uint32_t>(*value) : config::kNoLimit;
}

// An empty block is a block: it has the defaults, and a subset's replaces the destination's.
bool has(const json& parent, const char* key) { return parent.contains(key) && !parent[key].is_null(); }

void not_applied(ObjectReader& reader, const json& fields, const char* key, const std::string& instead) {
  if (has(fields, key))
    reader.report(Code::policy_not_applied, fields, key, std::string(key) + " is not applied yet: " + instead);
}

void decode_load_balancer(ObjectReader& reader, const json& policy, TrafficPolicy& into) {
  if (!has(policy, "loadBalancer")) return;
  const json& fields = reader.object(policy, "loadBalancer");
  const std::string simple = reader.string_of(
      fields, "simple", {"UNSPECIFIED", "LEAST_CONN", "LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"},
      "UNSPECIFIED");
  into.load_balancing = simple == "ROUND_ROBIN" ? config::LoadBalancing::round_robin
                        : simple == "RANDOM"    ? config::LoadBalancing::random
                                                : config::LoadBalancing::least_request;
  if (simple == "PASSTHROUGH")
    reader.report(Code::policy_not_applied, fields, "simple",
                  "PASSTHROUGH is not applied yet: calls are balanced by least request");
  not_applied(reader, fields, "consistentHash", "calls are balanced by least request");
  not_applied(reader, fields, "localityLbSetting", "endpoints of all zones are alike");
  not_applied(reader, fields, "warmup", "a new endpoint has its full share at once");
  not_applied(reader, fields, "warmupDurationSecs", "a new endpoint has its full share at once");
}

void decode_connection_pool(ObjectReader& reader, const json& policy, TrafficPolicy& into) {
  if (!has(policy, "connectionPool")) return;
  const json& fields = reader.object(policy, "connectionPool");
  config::ConnectionPool pool;
  const json& tcp = reader.object(fields, "tcp");
  pool.max_connections = decode_limit(reader, tcp, "maxConnections");
  pool.connect_timeout = reader.duration(tcp, "connectTimeout", kLeastDuration).value_or(pool.connect_timeout);
  pool.tcp_idle_timeout = reader.duration(tcp, "idleTimeout", base::Duration::zero()).value_or(pool.tcp_idle_timeout);
  pool.idle_timeout = pool.tcp_idle_timeout;
  pool.max_connection_duration = reader.duration(tcp, "maxConnectionDuration", kLeastDuration);
  if (has(tcp, "tcpKeepalive")) {
    const json& keepalive = reader.object(tcp, "tcpKeepalive");
    config::TcpKeepalive& into_keepalive = pool.tcp_keepalive.emplace();
    into_keepalive.probes = static_cast<uint32_t>(reader.integer(keepalive, "probes", 0, kMostProbes).value_or(0));
    into_keepalive.time = reader.duration(keepalive, "time", kLeastKeepalive).value_or(base::Duration::zero());
    into_keepalive.interval = reader.duration(keepalive, "interval", kLeastKeepalive).value_or(base::Duration::zero());
  }
  const json& http = reader.object(fields, "http");
  pool.max_pending_requests = decode_limit(reader, http, "http1MaxPendingRequests");
  pool.max_requests = decode_limit(reader, http, "http2MaxRequests");
  pool.max_requests_per_connection = decode_limit(reader, http, "maxRequestsPerConnection");
  pool.max_retries = decode_limit(reader, http, "maxRetries");
  pool.max_concurrent_streams = decode_limit(reader, http, "maxConcurrentStreams");
  pool.idle_timeout = reader.duration(http, "idleTimeout", base::Duration::zero()).value_or(pool.idle_timeout);
  const std::string upgrade =
      reader.string_of(http, "h2UpgradePolicy", {"DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"}, "DEFAULT");
  if (upgrade == "UPGRADE")
    reader.report(Code::policy_not_applied, http, "h2UpgradePolicy",
                  "UPGRADE is not applied yet: HTTP/1.1 is passed on as it is");
  reader.boolean(http, "useClientProtocol");  // HTTP/2 stays HTTP/2 in any case
  if (pool.max_concurrent_streams != config::kNoLimit && pool.max_connections == config::kNoLimit)
    reader.report(Code::streams_without_connections, http, "maxConcurrentStreams",
                  "maxConcurrentStreams without maxConnections limits nothing: further calls open more connections",
                  "add connectionPool.tcp.maxConnections");
  into.connection_pool = pool;
}

void decode_outlier_detection(ObjectReader& reader, const json& policy, TrafficPolicy& into) {
  if (!has(policy, "outlierDetection")) return;
  const json& fields = reader.object(policy, "outlierDetection");
  config::OutlierDetection outliers;
  const auto count = [&](const char* key, uint32_t otherwise, int64_t most) {
    return static_cast<uint32_t>(reader.integer(fields, key, 0, most).value_or(otherwise));
  };
  outliers.consecutive_gateway_errors = count("consecutiveGatewayErrors", 0, INT32_MAX);
  outliers.consecutive_5xx_errors = count("consecutive5xxErrors", outliers.consecutive_5xx_errors, INT32_MAX);
  outliers.interval = reader.duration(fields, "interval", kLeastDuration).value_or(outliers.interval);
  outliers.base_ejection_time =
      reader.duration(fields, "baseEjectionTime", kLeastDuration).value_or(outliers.base_ejection_time);
  outliers.max_ejection_percent = count("maxEjectionPercent", outliers.max_ejection_percent, 100);
  outliers.min_health_percent = count("minHealthPercent", outliers.min_health_percent, 100);
  not_applied(reader, fields, "splitExternalLocalOriginErrors", "errors of both origins count alike");
  not_applied(reader, fields, "consecutiveLocalOriginFailures", "errors of both origins count alike");
  not_applied(reader, fields, "consecutiveErrors", "it was removed from Istio: consecutive5xxErrors counts");
  into.outlier_detection = outliers;
}

void decode_tls(ObjectReader& reader, const json& policy, TrafficPolicy& into) {
  if (!has(policy, "tls")) return;
  const json& fields = reader.object(policy, "tls");
  const std::string mode = reader.string_of(fields, "mode", {"DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"}, "DISABLE");
  into.tls = mode == "SIMPLE"         ? config::UpstreamTls::simple
             : mode == "MUTUAL"       ? config::UpstreamTls::mutual
             : mode == "ISTIO_MUTUAL" ? config::UpstreamTls::istio_mutual
                                      : config::UpstreamTls::disable;
  if (*into.tls != config::UpstreamTls::disable)
    reader.report(Code::tls_not_available, fields, "mode",
                  "tls mode " + mode + " is not available: the calls FAIL (UF), nothing is sent in plaintext",
                  "use mode DISABLE, or keep these pods out of weir");
}

void decode_blocks(ObjectReader& reader, const json& policy, TrafficPolicy& into) {
  decode_load_balancer(reader, policy, into);
  decode_connection_pool(reader, policy, into);
  decode_outlier_detection(reader, policy, into);
  decode_tls(reader, policy, into);
}

config::PolicyWithPorts decode_policy(ObjectReader& reader, const json& parent) {
  config::PolicyWithPorts result;
  const json& policy = reader.object(parent, "trafficPolicy");
  decode_blocks(reader, policy, result.policy);
  if (has(policy, "retryBudget")) {
    const json& budget = reader.object(policy, "retryBudget");
    config::RetryBudget decoded;
    if (const auto percent = reader.number(budget, "percent", 0, 100)) decoded.percent = *percent;
    if (const auto least = reader.integer(budget, "minRetryConcurrency", 0, INT32_MAX))
      decoded.min_retry_concurrency = static_cast<uint32_t>(*least);
    result.policy.retry_budget = decoded;
  }
  for (const json* fields : reader.objects(policy, "portLevelSettings")) {
    const auto port = reader.port(reader.object(*fields, "port"), "number");
    if (!port && !reader.rejected())
      reader.reject(Code::missing_field, *fields, "port", "has no number", "name the port by port.number");
    TrafficPolicy own;
    decode_blocks(reader, *fields, own);
    result.ports.emplace_back(port.value_or(0), std::move(own));
  }
  not_applied(reader, policy, "tunnel", "connections are made directly");
  not_applied(reader, policy, "proxyProtocol", "no PROXY header is sent");
  return result;
}

}  // namespace

void decode_into(ObjectReader& reader, DestinationRule& object) {
  const json& spec = reader.object(reader.root(), "spec");
  object.host = reader.string(spec, "host");
  if (object.host.empty() && !reader.rejected())
    reader.reject(Code::missing_field, spec, "host", "is missing", "name the Service");
  object.export_to = reader.strings(spec, "exportTo");
  object.workload_selector = reader.string_map(reader.object(spec, "workloadSelector"), "matchLabels");
  object.policy = decode_policy(reader, spec);
  for (const json* fields : reader.objects(spec, "subsets")) {
    config::Subset subset;
    subset.name = reader.string(*fields, "name");
    if (subset.name.empty() && !reader.rejected())
      reader.reject(Code::missing_field, *fields, "name", "is missing; a subset is referred to by it");
    const bool twice = std::any_of(object.subsets.begin(), object.subsets.end(),
                                   [&](const config::Subset& other) { return other.name == subset.name; });
    subset.labels = reader.string_map(*fields, "labels");
    subset.policy = decode_policy(reader, *fields);
    if (twice)
      reader.report(Code::subset_defined_twice, *fields, "name",
                    "the subset " + shown(subset.name) + " is defined twice: the first one counts");
    else
      object.subsets.push_back(std::move(subset));
  }
  check_hosts(reader, spec);
}

}  // namespace weir::kubernetes
