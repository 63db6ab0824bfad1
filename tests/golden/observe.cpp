#include "observe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "describe.h"
#include "kubernetes/decode.h"
#include "kubernetes/object_store.h"
#include "kubernetes/translate.h"
#include "routing/route.h"
#include "routing/transform.h"

namespace weir::golden {
namespace {

using nlohmann::json;
using Outcome = routing::Route::Outcome;

// Of 64-bit random numbers that lie evenly: enough to tell shares of 0.1 %.
constexpr uint64_t kSamples = 10'000;

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

json to_json(const config::Finding& finding) {
  return {{"code", finding.code},     {"severity", to_string(finding.severity)},
          {"file", finding.file},     {"line", finding.line},
          {"object", finding.object}, {"message", finding.message},
          {"fix", finding.fix}};
}

// Everything a case can expect is there, with these values where a request does not get that far.
json nothing() {
  json result;
  for (const char* key : {"virtual_service",
                          "rule",
                          "match",
                          "cluster",
                          "subset",
                          "endpoints",
                          "timeout",
                          "retries",
                          "per_try_timeout",
                          "retry_on",
                          "after",
                          "backoff",
                          "previous_hosts",
                          "load_balancing",
                          "pool",
                          "outliers",
                          "retry_budget",
                          "session_affinity",
                          "tls",
                          "direct"})
    result[key] = "none";
  return result;
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

// As the agent of the client's node has it.
std::shared_ptr<const config::Snapshot> snapshot_of(const Case& one) {
  kubernetes::ClusterSettings settings;
  settings.node_name = one.request.value("node", "");
  settings.zone = one.request.value("zone", "");
  kubernetes::ObjectStore store;
  for (const auto& [file, text] : one.manifests) store.replace(file, kubernetes::read_manifest(text, file));
  return kubernetes::Translator(settings).build(store, nullptr);
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
      describe(route.rule && route.rule->retries ? *route.rule->retries : snapshot_.default_retries, path, result);
      if (route.rule) transform(route);
    } else if (route.outcome == Outcome::direct_response) {
      routing::apply(route.rule->headers.response, response_);
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
    const auto snapshot = snapshot_of(one);
    const auto dialled = parse_dialled(one.request.value("to", "greeter.default:80"));
    if (!dialled) return base::Error{"`to` is not written SERVICE.NAMESPACE:PORT"};
    const auto* service = snapshot->service_named(dialled->host);
    const config::ServicePort* port = service ? (*service)->find_port(dialled->port) : nullptr;
    if (!port) return base::Error{"no Service has the port that is dialled"};
    json result = Observer(*snapshot, **service, *port, one.request).run(one.request.value("random", uint64_t{0}));
    result["findings"] = json::array();
    for (const config::Finding& finding : *snapshot->findings) result["findings"].push_back(to_json(finding));
    return result;
  } catch (const json::exception& error) {
    return base::Error{std::string("the request is malformed: ") + error.what()};
  }
}

}  // namespace weir::golden
