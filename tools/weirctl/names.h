// How people name pods and services: NAME, NAME.NAMESPACE or NAMESPACE/NAME, a
// service also by its FQDN. Found in the agent's lists.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace weir::weirctl {

// `object` has the members name, namespace and perhaps fqdn. With `namespace_name` only objects in it match.
bool is_named(const nlohmann::json& object, std::string_view wanted, std::string_view namespace_name);
// The one of `list` that is meant; an error says what is there, or which ones it could be. `what` is "pod", "service".
base::Result<nlohmann::json> find_one(const nlohmann::json& list, const std::string& wanted,
                                      const std::string& namespace_name, const std::string& what);
std::string qualified_name(const nlohmann::json& object);  // "namespace/name"

struct ServicePortName {
  std::string service;
  uint16_t port = 0;
};
// "greeter:50051", "10.96.0.10:50051".
std::optional<ServicePortName> parse_service_port(std::string_view text);

// A member as text, "" if it is absent or null.
std::string text_of(const nlohmann::json& object, const char* key);

}  // namespace weir::weirctl
