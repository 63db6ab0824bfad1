#include "kubernetes/objects.h"

namespace weir::kubernetes {

const char* to_string(Kind kind) {
  switch (kind) {
    case Kind::service:
      return "Service";
    case Kind::endpoint_slice:
      return "EndpointSlice";
    case Kind::pod:
      return "Pod";
    case Kind::namespace_:
      return "Namespace";
    case Kind::node:
      return "Node";
    case Kind::daemon_set:
      return "DaemonSet";
    case Kind::virtual_service:
      return "VirtualService";
    case Kind::destination_rule:
      return "DestinationRule";
    case Kind::mesh_config:
      break;
    case Kind::gateway:
      return "Gateway";
    case Kind::authorization_policy:
      return "AuthorizationPolicy";
    case Kind::request_authentication:
      return "RequestAuthentication";
    case Kind::peer_authentication:
      return "PeerAuthentication";
  }
  return "ConfigMap";
}

std::string ObjectKey::to_string() const {
  std::string text = std::string(kubernetes::to_string(kind)) + " ";
  if (!namespace_name.empty()) text += namespace_name + "/";
  return text + name;
}

const Metadata& metadata_of(const Object& object) {
  return std::visit([](const auto& value) -> const Metadata& { return value.metadata; }, object);
}

ObjectKey key_of(const Object& object) {
  const Metadata& metadata = metadata_of(object);
  return {static_cast<Kind>(object.index()), metadata.namespace_name, metadata.name};
}

}  // namespace weir::kubernetes
