// VirtualService (networking.istio.io): its http routes. What weir does not apply yet is a finding, never silence.
#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <tuple>

#include "config/duration.h"
#include "kubernetes/decode_istio.h"
#include "kubernetes/decode_kinds.h"

namespace weir::kubernetes {
namespace {

using config::RequestMatch;
using config::RouteRule;
using config::StringMatch;
using nlohmann::json;

// Envoy adds weights in 32 bits.
constexpr int64_t kMaxWeight = INT32_MAX;
constexpr uint64_t kMaxTotalWeight = UINT32_MAX;

struct NotApplied {
  const char* field;
  std::string_view consequence;
};
constexpr std::array<NotApplied, 8> kNotAppliedInRules{{
    {"redirect", "the calls go to the rule's destinations"},
    {"delegate", "the rule has no destinations of its own"},
    {"fault", "no call is delayed or aborted"},
    {"mirror", "nothing is mirrored"},
    {"mirrors", "nothing is mirrored"},
    {"mirrorPercentage", "nothing is mirrored"},
    {"mirror_percent", "nothing is mirrored"},
    {"corsPolicy", "calls of browsers are passed on as they are"},
}};
constexpr std::array<NotApplied, 2> kNotAppliedInSpec{{
    {"tcp", "connections go to all ready endpoints in equal shares"},
    {"tls", "connections go to all ready endpoints in equal shares"},
}};

template <size_t kCount>
void report_not_applied(ObjectReader& reader, const json& parent, const std::array<NotApplied, kCount>& fields) {
  for (const NotApplied& field : fields) {
    if (parent.contains(field.field) && !parent[field.field].is_null())
      reader.report(Code::route_not_applied, parent, field.field,
                    std::string(field.field) + " is not applied yet: " + std::string(field.consequence));
  }
}

// Istio's StringMatch. Nothing if it has none of the three, which for a header means: present.
std::optional<StringMatch> decode_string_match(ObjectReader& reader, const json& fields) {
  if (auto text = reader.optional_string(fields, "exact")) return StringMatch::exact(std::move(*text));
  if (auto text = reader.optional_string(fields, "prefix")) return StringMatch::prefix(std::move(*text));
  auto pattern = reader.optional_string(fields, "regex");
  if (!pattern) return std::nullopt;
  auto match = StringMatch::regex(*pattern);
  if (match) return std::move(*match);
  reader.reject(Code::bad_value, fields, "regex",
                "is " + shown(*pattern) + ", which RE2 refuses: " + match.error().message);
  return std::nullopt;
}

std::optional<StringMatch> decode_part(ObjectReader& reader, const json& match, const char* key) {
  const json& fields = reader.object(match, key);
  return fields.empty() ? std::nullopt : decode_string_match(reader, fields);
}

void decode_headers(ObjectReader& reader, const json& match, const char* key, bool absent, RequestMatch& into) {
  const json& headers = reader.object(match, key);
  for (const auto& [name, value] : headers.items()) {
    if (!value.is_object() && !value.is_null()) {
      reader.reject(Code::wrong_type, headers, name, "is no mapping", "write {exact: ...}, or {} for any value");
      continue;
    }
    const std::string lower = lower_case(name);
    // Istio ignores these keys here: they have fields of their own.
    if (lower == "uri" || lower == "scheme" || lower == "method" || lower == "authority") {
      reader.report(Code::route_not_applied, headers, name,
                    shown(name) + " is no header: it is ignored here, as Istio does",
                    "use the field " + lower + " of the match");
      continue;
    }
    std::optional<StringMatch> wanted;
    if (value.is_object()) wanted = decode_string_match(reader, value);
    into.headers.push_back({lower, wanted.value_or(StringMatch()), absent});
  }
}

RequestMatch decode_match(ObjectReader& reader, const json& fields) {
  RequestMatch match;
  match.name = reader.string(fields, "name");
  match.uri = decode_part(reader, fields, "uri");
  if (match.uri && reader.boolean(fields, "ignoreUriCase").value_or(false)) match.uri->ignore_case();
  match.scheme = decode_part(reader, fields, "scheme");
  match.method = decode_part(reader, fields, "method");
  match.authority = decode_part(reader, fields, "authority");
  decode_headers(reader, fields, "headers", false, match);
  decode_headers(reader, fields, "withoutHeaders", true, match);
  const json& parameters = reader.object(fields, "queryParams");
  for (const auto& [name, value] : parameters.items()) {
    if (!value.is_object()) {
      reader.reject(Code::wrong_type, parameters, name, "is no mapping", "write {exact: ...}");
      continue;
    }
    match.query_params.push_back({name, decode_string_match(reader, value).value_or(StringMatch())});
  }
  match.port = reader.port(fields, "port");
  match.source_labels = reader.string_map(fields, "sourceLabels");
  match.source_namespace = reader.string(fields, "sourceNamespace");
  return match;
}

DestinationPlace place_of(const ObjectReader& reader, const config::RouteDestination& destination, uint64_t path) {
  return {destination.host, destination.subset, reader.line_at(LineTable::child(path, "host")),
          reader.line_at(LineTable::child(path, "subset"))};
}

// `path` is the rule's.
void decode_destinations(ObjectReader& reader, const json& fields, uint64_t path, RouteRule& rule,
                         std::vector<DestinationPlace>& places) {
  const std::vector<const json*> routes = reader.objects(fields, "route");
  std::map<std::tuple<std::string, std::string, std::optional<uint16_t>>, const json*> seen;  // -> headers
  uint64_t total = 0;
  for (size_t i = 0; i < routes.size(); ++i) {
    const json* route = routes[i];
    const json& target = reader.object(*route, "destination");
    config::RouteDestination destination;
    destination.host = reader.string(target, "host");
    if (destination.host.empty() && !reader.rejected())
      reader.reject(Code::missing_field, *route, "destination", "has no host", "name the Service");
    destination.subset = reader.string(target, "subset");
    destination.port = reader.port(reader.object(target, "port"), "number");
    destination.headers = decode_header_rules(reader, *route);
    const auto weight = reader.integer(*route, "weight", 0, kMaxWeight);
    destination.weight = routes.size() == 1 ? 1 : static_cast<uint32_t>(weight.value_or(0));
    total += destination.weight;
    if (destination.weight == 0) continue;
    // With headers of their own, two shares of one destination may be meant.
    const auto [first, fresh] =
        seen.try_emplace({destination.host, destination.subset, destination.port}, &reader.object(*route, "headers"));
    if (!fresh && *first->second == reader.object(*route, "headers"))
      reader.report(Code::repeated_destination, target, destination.subset.empty() ? "host" : "subset",
                    "the route goes to " + shown(destination.host) +
                        (destination.subset.empty() ? "" : ", subset " + shown(destination.subset) + ",") +
                        " twice: the weights add up",
                    destination.subset.empty() ? "name a subset in each" : "name another subset in one of them");
    const uint64_t place = LineTable::child(LineTable::child(path, "route"), i);
    places.push_back(place_of(reader, destination, LineTable::child(place, "destination")));
    rule.destinations.push_back(std::move(destination));
  }
  if (!routes.empty() && total == 0 && !reader.rejected())
    reader.reject(Code::bad_value, fields, "route", "has no weight above 0", "give its destinations weights");
  if (total > kMaxTotalWeight)
    reader.reject(Code::bad_value, fields, "route", "has weights of more than 4294967295 in all");
}

// Whether gateways, those of a match or else those of its VirtualService, have the mesh among them.
bool for_mesh(const std::vector<std::string>& own, const std::vector<std::string>& of_service) {
  const std::vector<std::string>& gateways = own.empty() ? of_service : own;
  return gateways.empty() || std::find(gateways.begin(), gateways.end(), "mesh") != gateways.end();
}

// Adds the rule, unless it is for gateways only.
void decode_rule(ObjectReader& reader, const json& fields, uint64_t path, VirtualService& service) {
  RouteRule rule;
  std::vector<DestinationPlace> places;
  rule.name = reader.string(fields, "name");
  bool for_all = true;
  for (const json* match : reader.objects(fields, "match")) {
    for_all = false;
    RequestMatch decoded = decode_match(reader, *match);
    if (for_mesh(reader.strings(*match, "gateways"), service.gateways)) rule.matches.push_back(std::move(decoded));
  }
  decode_destinations(reader, fields, path, rule, places);
  if (const json& direct = reader.object(fields, "directResponse"); !direct.empty()) {
    const auto status = reader.integer(direct, "status", 200, 599);
    const json& body = reader.object(direct, "body");
    rule.direct_response =
        config::DirectResponse{static_cast<uint16_t>(status.value_or(503)), reader.string(body, "string")};
    if (body.contains("bytes"))
      reader.report(Code::route_not_applied, body, "bytes", "a body in bytes is not applied yet: it is empty");
  }
  if (rule.destinations.empty() && !rule.direct_response && !reader.rejected())
    reader.report(Code::route_not_applied, fields, "route",
                  "the rule has no destination: its calls are answered 503 (NC)");
  rule.timeout = reader.duration(fields, "timeout", base::Duration::zero());
  if (rule.timeout && *rule.timeout == base::Duration::zero()) rule.timeout.reset();  // 0s: none
  rule.retries = decode_retries(reader, fields, "retries");
  rule.headers = decode_header_rules(reader, fields);
  rule.rewrite = decode_rewrite(reader, fields);
  report_not_applied(reader, fields, kNotAppliedInRules);
  if (for_all ? !for_mesh({}, service.gateways) : rule.matches.empty()) return;
  service.http.push_back(std::move(rule));
  std::move(places.begin(), places.end(), std::back_inserter(service.places));
}

// Whether what the rule's own retries call again may have been processed, at least in part.
bool may_repeat(const RouteRule& rule) {
  using config::RetryOn;
  constexpr auto kNotProcessed = static_cast<uint32_t>(RetryOn::connect_failure) |
                                 static_cast<uint32_t>(RetryOn::refused_stream) |
                                 static_cast<uint32_t>(RetryOn::reset_before_request);
  return rule.retries && !rule.direct_response && rule.retries->attempts > 0 &&
         (rule.retries->conditions & ~kNotProcessed) != 0;
}

}  // namespace

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

void decode_into(ObjectReader& reader, VirtualService& object) {
  const json& spec = reader.object(reader.root(), "spec");
  object.hosts = reader.strings(spec, "hosts");
  object.gateways = reader.strings(spec, "gateways");
  object.export_to = reader.strings(spec, "exportTo");
  if (object.hosts.empty() && !reader.rejected())
    reader.report(Code::route_not_applied, spec, "hosts",
                  "it names no host, so it applies to nothing (delegates come later)");
  const uint64_t path = LineTable::child(LineTable::child(reader.path(), "spec"), "http");
  const std::vector<const json*> rules = reader.objects(spec, "http");
  const json* repeating = nullptr;  // the first rule whose retries may repeat calls: one finding is enough
  for (size_t i = 0; i < rules.size(); ++i) {
    const size_t before = object.http.size();
    decode_rule(reader, *rules[i], LineTable::child(path, i), object);
    if (!repeating && object.http.size() > before && may_repeat(object.http.back())) repeating = rules[i];
  }
  if (!rules.empty() && object.http.empty() && !reader.rejected())
    reader.report(Code::gateways_only, spec, "gateways",
                  "all its rules are for gateways, which weir does not serve yet: it has no part in the mesh");
  object.idempotent_methods = idempotent_methods(object.metadata.annotations);
  report_not_applied(reader, spec, kNotAppliedInSpec);
  check_hosts(reader, spec);
  if (repeating && !object.idempotent_methods && !reader.rejected())
    reader.report(
        Code::retries_may_repeat, (*repeating)["retries"], "retryOn",
        "its retries may repeat calls that a server has processed already, and no method is declared "
        "idempotent: all are repeated",
        "list the methods that may run twice in the annotation weir.dev/idempotent-methods (pkg.Service/Method, "
        "between commas); the others are then repeated only if no server has seen them");
}

}  // namespace weir::kubernetes
