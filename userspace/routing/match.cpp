#include "routing/match.h"

#include <optional>
#include <string>

namespace weir::routing {
namespace {

using config::HeaderMatch;
using config::RequestMatch;
using config::RouteDestination;

// Envoy matches the path without query and fragment.
std::string_view path_of(std::string_view target) { return target.substr(0, target.find_first_of("?#")); }

std::string_view query_of(std::string_view target) {
  target = target.substr(0, target.find('#'));
  const size_t mark = target.find('?');
  return mark == std::string_view::npos ? std::string_view() : target.substr(mark + 1);
}

// The first value of `name` in a query; nothing if it is not there.
std::optional<std::string_view> query_value(std::string_view query, std::string_view name) {
  while (!query.empty()) {
    const size_t end = query.find('&');
    const std::string_view item = query.substr(0, end);
    const size_t equals = item.find('=');
    if (item.substr(0, equals) == name)
      return equals == std::string_view::npos ? std::string_view() : item.substr(equals + 1);
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
  }
  return std::nullopt;
}

// Several fields of one name are one value, joined by commas (RFC 9110 section 5.3).
bool header_matches(const HeaderMatch& wanted, const http::Headers& headers) {
  std::optional<std::string_view> first;
  std::string joined;
  for (const http::Field field : headers) {
    if (field.name != wanted.name) continue;
    if (!first) {
      first = field.value;
      continue;
    }
    if (joined.empty()) joined = *first;
    joined.append(",").append(field.value);
  }
  const bool found = first && wanted.value.matches(joined.empty() ? *first : std::string_view(joined));
  return found != wanted.absent;
}

// The cheap and telling ones first.
bool matches(const RequestMatch& wanted, const Request& request) {
  const http::Headers& headers = request.headers;
  if (wanted.port && *wanted.port != request.port) return false;
  if (wanted.uri && !wanted.uri->matches(path_of(headers.get(":path")))) return false;
  if (wanted.method && !wanted.method->matches(headers.get(":method"))) return false;
  if (wanted.scheme && !wanted.scheme->matches(headers.get(":scheme"))) return false;
  if (wanted.authority && !wanted.authority->matches(headers.get(":authority"))) return false;
  if (!wanted.source_namespace.empty() && wanted.source_namespace != request.source_namespace) return false;
  if (!config::includes(request.source_labels, wanted.source_labels)) return false;
  for (const HeaderMatch& header : wanted.headers)
    if (!header_matches(header, headers)) return false;
  for (const config::QueryMatch& parameter : wanted.query_params) {
    const auto value = query_value(query_of(headers.get(":path")), parameter.name);
    if (!value || !parameter.value.matches(*value)) return false;
  }
  return true;
}

}  // namespace

Match match(const config::VirtualService& service, const Request& request) {
  for (const config::RouteRule& rule : service.rules) {
    if (rule.matches.empty()) return {&rule, nullptr};
    for (const RequestMatch& wanted : rule.matches)
      if (matches(wanted, request)) return {&rule, &wanted};
  }
  return {};
}

const RouteDestination* choose(std::span<const RouteDestination> destinations, uint64_t random) {
  if (destinations.empty()) return nullptr;
  if (destinations.size() == 1) return destinations.data();
  uint64_t total = 0;
  for (const RouteDestination& destination : destinations) total += destination.weight;
  // The upper half of the random bits, scaled: no remainder favours the first ones.
  uint64_t at = (random >> 32) * total >> 32;
  for (const RouteDestination& destination : destinations) {
    if (at < destination.weight) return &destination;
    at -= destination.weight;
  }
  return &destinations.back();
}

const config::VirtualService* governing(std::span<const std::shared_ptr<const config::VirtualService>> candidates,
                                        std::string_view client_namespace) {
  for (const auto& candidate : candidates)
    if (candidate->visible_in(client_namespace)) return candidate.get();
  return nullptr;
}

}  // namespace weir::routing
