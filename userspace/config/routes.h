// What a VirtualService asks for, resolved: hosts are complete names, everything that was omitted has its default.
// Immutable once it is part of a Snapshot. The names are Istio's (networking.istio.io/v1 VirtualService); all durations
// are as the manifest has them, zero never means "none".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/labels.h"
#include "config/string_match.h"

namespace weir::config {

struct HeaderMatch {
  std::string name;  // lower case
  StringMatch value;
  bool absent = false;  // withoutHeaders: the rest must not match
  bool operator==(const HeaderMatch&) const = default;
};

struct QueryMatch {
  std::string name;
  StringMatch value;
  bool operator==(const QueryMatch&) const = default;
};

// HTTPMatchRequest: what is there must match, all of it.
struct RequestMatch {
  std::string name;
  std::optional<StringMatch> uri, scheme, method, authority;
  std::vector<HeaderMatch> headers;
  std::vector<QueryMatch> query_params;
  std::optional<uint16_t> port;  // that was dialled
  Labels source_labels;
  std::string source_namespace;  // empty: any
  bool operator==(const RequestMatch&) const = default;
};

// Headers.HeaderOperations: removed, then set, then added; names in lower case.
struct HeaderOperations {
  std::map<std::string, std::string> set, add;
  std::vector<std::string> remove;
  bool empty() const { return set.empty() && add.empty() && remove.empty(); }
  bool operator==(const HeaderOperations&) const = default;
};

struct HeaderRules {
  HeaderOperations request, response;
  bool operator==(const HeaderRules&) const = default;
};

// HTTPRouteDestination.
struct RouteDestination {
  std::string host;              // complete: "reviews.default.svc.cluster.local"
  std::string subset;            // empty: all endpoints
  std::optional<uint16_t> port;  // absent: the service's only port, else the dialled one
  uint32_t weight = 1;           // relative; never 0, those are left out
  HeaderRules headers;
  bool operator==(const RouteDestination&) const = default;
};

// What an attempt may have ended with to be made again (HTTPRetry.retryOn).
enum class RetryOn : uint32_t {
  cancelled = 1u << 0,  // gRPC status 1
  deadline_exceeded = 1u << 1,
  internal = 1u << 2,
  resource_exhausted = 1u << 3,
  unavailable = 1u << 4,
  connect_failure = 1u << 5,
  refused_stream = 1u << 6,
  reset = 1u << 7,
  reset_before_request = 1u << 8,
  http_5xx = 1u << 9,
  gateway_error = 1u << 10,  // 502, 503, 504
  retriable_4xx = 1u << 11,  // 409
  retriable_status_codes = 1u << 12,
};

struct RetryPolicy {
  uint32_t attempts = 2;               // after the first try
  uint32_t conditions = 0;             // of RetryOn
  std::vector<uint16_t> status_codes;  // HTTP, sorted
  std::optional<base::Duration> per_try_timeout;
  std::optional<base::Duration> backoff;  // base interval; absent: 25 ms
  bool ignore_previous_hosts = true;
  // Paths of the methods that may have been processed and still be called again; absent: all (annotation
  // weir.dev/idempotent-methods).
  std::optional<std::vector<std::string>> idempotent_methods;
  bool has(RetryOn condition) const { return (conditions & static_cast<uint32_t>(condition)) != 0; }
  bool operator==(const RetryPolicy&) const = default;
};

// What a mesh has that sets no defaultHttpRetryPolicy, and the conditions of a policy without retryOn.
const RetryPolicy& default_retry_policy();

struct Rewrite {
  std::optional<std::string> uri;  // instead of the prefix (or all) that matched
  std::optional<std::string> authority;
  bool operator==(const Rewrite&) const = default;
};

struct DirectResponse {
  uint16_t status = 0;
  std::string body;
  bool operator==(const DirectResponse&) const = default;
};

// HTTPRoute. It has destinations, or a direct response.
struct RouteRule {
  std::string name;
  std::vector<RequestMatch> matches;  // one is enough; none: every request
  std::vector<RouteDestination> destinations;
  std::optional<DirectResponse> direct_response;
  std::optional<base::Duration> timeout;
  std::optional<RetryPolicy> retries;  // absent: the mesh's default (Snapshot::default_retries)
  HeaderRules headers;
  std::optional<Rewrite> rewrite;
  bool operator==(const RouteRule&) const = default;
};

// The part of one VirtualService that applies to the mesh's own traffic.
struct VirtualService {
  std::string namespace_name;
  std::string name;
  std::vector<std::string> hosts;      // complete, or with a leading "*."
  std::vector<std::string> export_to;  // namespaces; empty: all
  std::vector<RouteRule> rules;
  bool visible_in(std::string_view namespace_name_of_client) const;
  bool operator==(const VirtualService&) const = default;
};

}  // namespace weir::config
