#include "kubernetes/resources.h"

#include <initializer_list>
#include <utility>

namespace weir::kubernetes {
namespace {

Resource istio(const std::string& group, std::initializer_list<const char*> versions, const std::string& plural,
               const std::string& kind, Kind object_kind) {
  Resource resource{plural, kind, object_kind, {}};
  for (const char* version : versions) {
    const std::string api_version = group + "/" + version;
    std::string path = "/apis/";
    path.append(api_version).append("/").append(plural);
    resource.versions.push_back({api_version, std::move(path)});
  }
  resource.group = group;
  return resource;
}

Resource networking(const std::string& plural, const std::string& kind, Kind object_kind) {
  return istio("networking.istio.io", {"v1", "v1beta1", "v1alpha3"}, plural, kind, object_kind);
}

// They change nothing of what is served, so that nothing waits for them: there is only something to say of each.
Resource only_reported(Resource resource, bool metadata_only) {
  resource.metadata_only = metadata_only;
  resource.is_awaited = false;
  return resource;
}

Resource security(const std::string& plural, const std::string& kind, Kind object_kind, bool metadata_only) {
  return only_reported(istio("security.istio.io", {"v1", "v1beta1"}, plural, kind, object_kind), metadata_only);
}

}  // namespace

std::string path_of(const Resource::Version& place, const std::string& namespace_name, const std::string& name) {
  std::string path = place.path;
  // A resource that is followed in one namespace has it there already.
  if (path.find("/namespaces/") == std::string::npos) path.insert(path.rfind('/'), "/namespaces/" + namespace_name);
  return path + "/" + name;
}

std::vector<Resource> watched_resources(const std::string& node_name) {
  // Names of nodes are DNS names: nothing in them has to be escaped.
  std::vector<Resource> resources{
      {"namespaces", "Namespace", Kind::namespace_, {{"v1", "/api/v1/namespaces"}}, {}, true},
      {"node", "Node", Kind::node, {{"v1", "/api/v1/nodes"}}, "fieldSelector=metadata.name%3D" + node_name, true},
      // Sorts before the others: a pod that was just bound to this node may be in both lists for a moment.
      {"local pods", "Pod", Kind::pod, {{"v1", "/api/v1/pods"}}, "fieldSelector=spec.nodeName%3D" + node_name},
      {"services", "Service", Kind::service, {{"v1", "/api/v1/services"}}},
      {"endpointslices",
       "EndpointSlice",
       Kind::endpoint_slice,
       {{"discovery.k8s.io/v1", "/apis/discovery.k8s.io/v1/endpointslices"}},
       "labelSelector=kubernetes.io%2Fservice-name"},
      {"mesh configuration",
       "ConfigMap",
       Kind::mesh_config,
       {{"v1", "/api/v1/namespaces/istio-system/configmaps"}},
       "fieldSelector=metadata.name%3Distio"},
      networking("virtualservices", "VirtualService", Kind::virtual_service),
      networking("destinationrules", "DestinationRule", Kind::destination_rule),
      only_reported(networking("gateways", "Gateway", Kind::gateway), false),
      security("authorizationpolicies", "AuthorizationPolicy", Kind::authorization_policy, true),
      security("requestauthentications", "RequestAuthentication", Kind::request_authentication, true),
      // Whether it is STRICT stands in its spec.
      security("peerauthentications", "PeerAuthentication", Kind::peer_authentication, false),
  };
  return resources;
}

Resource own_daemon_set(const std::string& namespace_name, const std::string& name) {
  Resource resource{"own daemonset", "DaemonSet", Kind::daemon_set, {}};
  resource.versions.push_back({"apps/v1", "/apis/apps/v1/namespaces/" + namespace_name + "/daemonsets"});
  resource.selector = "fieldSelector=metadata.name%3D" + name;
  resource.metadata_only = true;
  resource.is_awaited = false;
  return resource;
}

Resource pods_elsewhere(const std::string& node_name) {
  return {"pods elsewhere",
          "Pod",
          Kind::pod,
          {{"v1", "/api/v1/pods"}},
          "fieldSelector=spec.nodeName%21%3D" + node_name,
          true};
}

}  // namespace weir::kubernetes
