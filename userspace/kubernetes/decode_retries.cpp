// HTTPRetry (networking.istio.io): of a VirtualService's rules, and the mesh's default.
#include <algorithm>
#include <array>
#include <charconv>

#include "kubernetes/decode_istio.h"

namespace weir::kubernetes {
namespace {

using config::RetryOn;
using nlohmann::json;

struct Condition {
  std::string_view name;
  RetryOn bit;
};
constexpr std::array<Condition, 12> kConditions{{
    {"cancelled", RetryOn::cancelled},
    {"deadline-exceeded", RetryOn::deadline_exceeded},
    {"internal", RetryOn::internal},
    {"resource-exhausted", RetryOn::resource_exhausted},
    {"unavailable", RetryOn::unavailable},
    {"connect-failure", RetryOn::connect_failure},
    {"refused-stream", RetryOn::refused_stream},
    {"reset", RetryOn::reset},
    {"reset-before-request", RetryOn::reset_before_request},
    {"5xx", RetryOn::http_5xx},
    {"gateway-error", RetryOn::gateway_error},
    {"retriable-4xx", RetryOn::retriable_4xx},
}};

void decode_condition(ObjectReader& reader, const json& fields, std::string_view name, config::RetryPolicy& policy) {
  const auto known = std::find_if(kConditions.begin(), kConditions.end(),
                                  [&](const Condition& condition) { return condition.name == name; });
  if (known != kConditions.end()) {
    policy.conditions |= static_cast<uint32_t>(known->bit);
    return;
  }
  if (name == "retriable-status-codes") return;  // the numbers beside it say which
  if (name == "retriable-headers")
    return reader.report(Code::route_not_applied, fields, "retryOn",
                         "'retriable-headers' has no effect: only requests could say which headers they are (in "
                         "x-envoy-retriable-header-names), and weir does not read that",
                         "use conditions of the response's status");
  uint16_t status = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), status);
  if (error == std::errc() && end == name.data() + name.size() && status >= 100 && status <= 599) {
    policy.conditions |= static_cast<uint32_t>(RetryOn::retriable_status_codes);
    policy.status_codes.push_back(status);
    return;
  }
  reader.report(Code::unknown_retry_condition, fields, "retryOn",
                shown(name) + " is no condition for a retry: it is ignored",
                "see the retry policies of Envoy: unavailable, reset, 5xx, ...");
}

// The parts of a list, without spaces around them; empty ones are left out.
std::vector<std::string_view> comma_separated(std::string_view text) {
  std::vector<std::string_view> parts;
  for (size_t from = 0; from <= text.size();) {
    const size_t end = std::min(text.find(',', from), text.size());
    std::string_view part = text.substr(from, end - from);
    while (part.starts_with(' ')) part.remove_prefix(1);
    while (part.ends_with(' ')) part.remove_suffix(1);
    if (!part.empty()) parts.push_back(part);
    from = end + 1;
  }
  return parts;
}

}  // namespace

std::optional<config::RetryPolicy> decode_retries(ObjectReader& reader, const json& parent, const char* key) {
  if (!parent.contains(key) || parent[key].is_null()) return std::nullopt;
  const json& fields = reader.object(parent, key);
  // What is left out is Istio's default, not the mesh's; but one that does not say how often means: not at all.
  config::RetryPolicy policy = config::default_retry_policy();
  policy.attempts = static_cast<uint32_t>(reader.integer(fields, "attempts", 0, INT32_MAX).value_or(0));
  policy.per_try_timeout = reader.duration(fields, "perTryTimeout", kLeastDuration);
  policy.backoff = reader.duration(fields, "backoff", kLeastDuration);
  policy.ignore_previous_hosts = reader.boolean(fields, "retryIgnorePreviousHosts").value_or(true);
  const std::string conditions = reader.string(fields, "retryOn");
  if (conditions.empty()) return policy;
  policy.conditions = 0;
  for (const std::string_view name : comma_separated(conditions)) decode_condition(reader, fields, name, policy);
  std::sort(policy.status_codes.begin(), policy.status_codes.end());
  return policy;
}

// "pkg.Service/Method, /pkg.Service/Other" as paths.
std::optional<std::vector<std::string>> idempotent_methods(const config::Labels& annotations) {
  const auto found = annotations.find("weir.dev/idempotent-methods");
  if (found == annotations.end()) return std::nullopt;
  std::vector<std::string> paths;
  for (const std::string_view name : comma_separated(found->second))
    paths.push_back(name.starts_with('/') ? std::string(name) : "/" + std::string(name));
  return paths;
}

}  // namespace weir::kubernetes
