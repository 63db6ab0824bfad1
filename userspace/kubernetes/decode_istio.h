// What the decoders of Istio's kinds share. Included by the decoder's sources only.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "kubernetes/object_reader.h"

namespace weir::kubernetes {

// What Istio's validation demands of most durations.
constexpr auto kLeastDuration = std::chrono::milliseconds(1);

std::string lower_case(std::string text);

// What a route or a destination changes in headers, and what a route rewrites. Bad operations are findings.
config::HeaderRules decode_header_rules(ObjectReader& reader, const nlohmann::json& parent);
std::optional<config::Rewrite> decode_rewrite(ObjectReader& reader, const nlohmann::json& rule);

// The HTTPRetry at `key`; nothing if there is none. Conditions without an effect are findings.
std::optional<config::RetryPolicy> decode_retries(ObjectReader& reader, const nlohmann::json& parent, const char* key);
// Paths of the methods that the annotation weir.dev/idempotent-methods names; nothing without it.
std::optional<std::vector<std::string>> idempotent_methods(const config::Labels& annotations);

// Reports members named `host`, at any depth below `node`, that carry the cluster domain twice.
void check_hosts(ObjectReader& reader, const nlohmann::json& node);

// The API group networking.io, which does not exist.
void report_misspelt_group(ObjectReader& reader);

}  // namespace weir::kubernetes
