#include "observe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "config/duration.h"
#include "kubernetes/decode.h"
#include "kubernetes/object_store.h"
#include "kubernetes/translate.h"
#include "routing/retry.h"
#include "routing/route.h"
#include "routing/transform.h"

namespace weir::golden {
namespace {

using nlohmann::json;
using Outcome = routing::Route::Outcome;

// Of 64-bit random numbers that lie evenly: enough to tell shares of 0.1 %.
constexpr uint64_t kSamples = 10'000;

std::string text_of(const std::optional<base::Duration>& duration) {
  return duration ? config::to_string(*duration) : "none";
}

json limit(uint32_t value) { return value == config::kNoLimit ? json("none") : json(value); }

// Fields of one name are joined by ", ".
json to_json(const http::Headers& headers) {
  json result = json::object();
  for (const http::Field field : headers) {
    json& value = result[std::string(field.name)];
    value = value.is_null() ? std::string(field.value) : value.get<std::string>() + ", " + std::string(field.value);
  }
  return result;
}

void add_fields(http::Headers& headers, const json& fields) {
  for (const auto& [name, value] : fields.items()) {
    if (value.is_array())
      for (const json& one : value) headers.add(name, one.get<std::string>());
    else
      headers.add(name, value.get<std::string>());
  }
}

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
    {config::RetryOn::retriable_headers, "retriable-headers"},
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

json to_json(const config::Finding& finding) {
  return {{"code", finding.code},     {"severity", to_string(finding.severity)},
          {"file", finding.file},     {"line", finding.line},
          {"object", finding.object}, {"message", finding.message},
          {"fix", finding.fix}};
}

// Everything a case can expect is there, with these values where a request does not get that far.
json nothing() {
  json result;
  for (const char* key : {"virtual_service", "rule", "match", "cluster", "subset", "endpoints", "timeout", "retries",
                          "per_try_timeout", "retry_on", "after", "backoff", "previous_hosts", "load_balancing", "pool",
                          "outliers", "retry_budget", "tls", "direct"})
    result[key] = "none";
  return result;
}

void describe(const config::Cluster& cluster, json& into) {
  constexpr std::array kBalancing = {"LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"};
  into["cluster"] = cluster.name;
  into["subset"] = cluster.subset.empty() ? "none" : cluster.subset;
  into["endpoints"] = json::array();
  for (const config::Endpoint& endpoint : cluster.endpoints) into["endpoints"].push_back(endpoint.address.to_string());
  into["load_balancing"] = kBalancing.at(static_cast<size_t>(cluster.load_balancing));
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

// "greeter.default:80".
struct Dialled {
  std::string host;
  uint16_t port = 0;
};
std::optional<Dialled> parse_dialled(const std::string& to) {
  const size_t colon = to.find(':');
  Dialled result{to.substr(0, colon) + ".svc.cluster.local", 0};
  if (colon == std::string::npos) return std::nullopt;
  const auto [end, error] = std::from_chars(to.data() + colon + 1, to.data() + to.size(), result.port);
  if (error != std::errc() || end != to.data() + to.size()) return std::nullopt;
  return result;
}

std::shared_ptr<const config::Snapshot> snapshot_of(const std::vector<Manifest>& manifests) {
  kubernetes::ObjectStore store;
  for (const auto& [file, text] : manifests) store.replace(file, kubernetes::read_manifest(text, file));
  return kubernetes::Translator({}).build(store, nullptr);
}

const char* to_string(Outcome outcome) {
  constexpr std::array kNames = {"cluster", "direct", "NR", "NC"};
  return kNames.at(static_cast<size_t>(outcome));
}

// One request to one port of a Snapshot.
class Observer {
 public:
  Observer(const config::Snapshot& snapshot, const config::Service& service, const config::ServicePort& port,
           const json& request)
      : snapshot_(snapshot), service_(service), port_(port), namespace_(request.value("from", "default")) {
    const json labels = request.value("labels", json::object());
    for (const auto& [name, value] : labels.items()) labels_[name] = value;
    headers_.add(":method", request.value("method", "POST"));
    headers_.add(":scheme", request.value("scheme", "http"));
    headers_.add(":path", request.value("path", "/pkg.Greeter/Hello"));
    headers_.add(":authority", request.value("authority", service.fqdn + ":" + std::to_string(port.port)));
    add_fields(headers_, {{"content-type", "application/grpc"}, {"te", "trailers"}});
    const json own = request.value("headers", json::object());
    for (const auto& [name, value] : own.items()) {
      headers_.remove(name);
      add_fields(headers_, {{name, value}});
    }
    response_.add(":status", "200");
    add_fields(response_, {{"content-type", "application/grpc"}});
    add_fields(response_, request.value("response", json::object()));
  }

  json run(uint64_t random) {
    const routing::Route route = routed(random);
    json result = nothing();
    result["outcome"] = to_string(route.outcome);
    result["protocol"] = config::to_string(port_.protocol);
    result["diverted"] = config::to_string(port_.diverted_mode());
    result["shares"] = shares();
    describe_rule(route, result);
    if (route.outcome == Outcome::cluster) {
      describe(**route.cluster, result);
      const std::string path(headers_.get(":path"));
      describe(route.rule ? route.rule->retries : config::default_retry_policy(), path, result);
      if (route.rule) transform(route);
    }
    result["request_headers"] = to_json(headers_);
    result["response_headers"] = to_json(response_);
    return result;
  }

 private:
  routing::Route routed(uint64_t random) const {
    const routing::Request request{headers_, port_.port, labels_, namespace_};
    return routing::route(snapshot_, service_, port_, request, random);
  }

  // Percent of the requests, by subset, or by the destination's service where there is none; those without a cluster
  // as "NC".
  json shares() const {
    std::map<std::string, uint64_t> counts;
    constexpr uint64_t kStep = UINT64_MAX / kSamples;
    for (uint64_t i = 0; i < kSamples; ++i) {
      const routing::Route route = routed(i * kStep + kStep / 2);
      if (route.outcome != Outcome::cluster) {
        ++counts[to_string(route.outcome)];
        continue;
      }
      const config::Cluster& cluster = **route.cluster;
      ++counts[cluster.subset.empty() ? cluster.host : cluster.subset];
    }
    json result;
    for (const auto& [name, count] : counts)
      result[name] = std::round(static_cast<double>(count) * 1000 / kSamples) / 10;
    return result;
  }

  void describe_rule(const routing::Route& route, json& into) const {
    const config::VirtualService* governing = routing::governing(service_.virtual_services, namespace_);
    if (!governing) return;
    into["virtual_service"] = governing->namespace_name + "/" + governing->name;
    if (!route.rule) return;
    const auto index = std::to_string(route.rule - governing->rules.data());
    into["rule"] = route.rule->name.empty() ? "#" + index : route.rule->name;
    if (route.match && !route.match->name.empty()) into["match"] = route.match->name;
    into["timeout"] = text_of(route.rule->timeout);
    if (route.outcome == Outcome::direct_response)
      into["direct"] = {{"status", route.rule->direct_response->status}, {"body", route.rule->direct_response->body}};
  }

  // In the exchange's order.
  void transform(const routing::Route& route) {
    routing::apply(route.destination->headers.request, headers_);
    routing::apply(route.rule->headers.request, headers_);
    if (route.rule->rewrite) routing::rewrite(*route.rule->rewrite, route.match, headers_);
    routing::apply(route.destination->headers.response, response_);
    routing::apply(route.rule->headers.response, response_);
  }

  const config::Snapshot& snapshot_;
  const config::Service& service_;
  const config::ServicePort& port_;
  const std::string namespace_;
  config::Labels labels_;
  http::Headers headers_, response_;
};

}  // namespace

base::Result<json> observe(const Case& one) {
  try {
    const auto snapshot = snapshot_of(one.manifests);
    const auto dialled = parse_dialled(one.request.value("to", "greeter.default:80"));
    if (!dialled) return base::Error{"`to` is not written SERVICE.NAMESPACE:PORT"};
    const auto service = snapshot->by_host.find(dialled->host);
    const config::ServicePort* port =
        service == snapshot->by_host.end() ? nullptr : service->second->find_port(dialled->port);
    if (!port) return base::Error{"no Service has the port that is dialled"};
    json result =
        Observer(*snapshot, *service->second, *port, one.request).run(one.request.value("random", uint64_t{0}));
    result["findings"] = json::array();
    for (const config::Finding& finding : snapshot->findings) result["findings"].push_back(to_json(finding));
    return result;
  } catch (const json::exception& error) {
    return base::Error{std::string("the request is malformed: ") + error.what()};
  }
}

}  // namespace weir::golden
