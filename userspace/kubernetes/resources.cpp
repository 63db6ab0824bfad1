#include "kubernetes/resources.h"

#include <utility>

namespace weir::kubernetes {
namespace {

Resource istio(const std::string& plural, const std::string& kind, Kind object_kind) {
  Resource resource{plural, kind, object_kind, {}};
  for (const char* version : {"v1", "v1beta1", "v1alpha3"}) {
    const std::string api_version = "networking.istio.io/" + std::string(version);
    std::string path = "/apis/";
    path.append(api_version).append("/").append(plural);
    resource.versions.push_back({api_version, std::move(path)});
  }
  resource.may_be_missing = true;
  return resource;
}

}  // namespace

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
      istio("virtualservices", "VirtualService", Kind::virtual_service),
      istio("destinationrules", "DestinationRule", Kind::destination_rule),
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
