#include "kubernetes/translate.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

using ServiceName = std::pair<std::string_view, std::string_view>;

template <class T>
using Shared = std::vector<std::shared_ptr<const T>>;

// Of a vector sorted by namespace and name; null if there is none.
template <class T>
std::shared_ptr<const T> find_previous(const Shared<T>* objects, const Metadata& metadata) {
  if (!objects) return nullptr;
  auto name = std::tie(metadata.namespace_name, metadata.name);
  auto found = std::lower_bound(objects->begin(), objects->end(), name, [](const auto& object, const auto& wanted) {
    return std::tie(object->namespace_name, object->name) < wanted;
  });
  if (found == objects->end() || std::tie((*found)->namespace_name, (*found)->name) != name) return nullptr;
  return *found;
}

class Build {
 public:
  Build(const ObjectStore& store, const ClusterSettings& settings, const config::Snapshot* previous)
      : store_(store), settings_(settings), previous_(previous), snapshot_(std::make_shared<config::Snapshot>()) {}

  std::shared_ptr<const config::Snapshot> run() {
    snapshot_->revision = previous_ ? previous_->revision + 1 : 1;
    snapshot_->findings = store_.findings();
    MeshConfig mesh;
    store_.for_each<MeshConfig>([&](const MeshConfig& only) { mesh = only; });
    snapshot_->default_retries = mesh.default_retries;
    const IstioRules rules(store_, settings_, mesh, previous_, snapshot_->findings);
    snapshot_->virtual_services = rules.virtual_services();
    add_services(rules);
    add_pods();
    rules.check(*snapshot_, snapshot_->findings);
    std::sort(snapshot_->findings.begin(), snapshot_->findings.end(), [](const auto& a, const auto& b) {
      return std::tie(a.file, a.line, a.object, a.code, a.message) <
             std::tie(b.file, b.line, b.object, b.code, b.message);
    });
    return snapshot_;
  }

 private:
  void add_services(const IstioRules& rules) {
    std::unordered_map<base::IpAddress, const Labels*> labels_by_ip;  // for endpoints that name no pod
    store_.for_each<Pod>([&](const Pod& pod) {
      if (pod.host_network) return;
      for (const base::IpAddress& ip : pod.ips) labels_by_ip.emplace(ip, &pod.metadata.labels);
    });
    std::map<ServiceName, Slices> slices;
    store_.for_each<EndpointSlice>([&](const EndpointSlice& slice) {
      slices[{slice.metadata.namespace_name, slice.service}].push_back(&slice);
    });
    store_.for_each<Service>([&](const Service& service) {
      auto own = slices.extract({service.metadata.namespace_name, service.metadata.name});
      auto before = find_previous(previous_ ? &previous_->services : nullptr, service.metadata);
      const auto labels_of = [&](const config::Endpoint& endpoint) -> const Labels* {
        if (!endpoint.pod.empty()) {
          const Object* pod = store_.find({Kind::pod, service.metadata.namespace_name, endpoint.pod});
          if (pod) return &metadata_of(*pod).labels;
        }
        const auto at = labels_by_ip.find(endpoint.address.ip);
        return at == labels_by_ip.end() ? nullptr : at->second;
      };
      auto result = translate_service(service, own ? own.mapped() : Slices(), settings_, rules, labels_of, before,
                                      snapshot_->findings);
      add_addresses(service, result);
      snapshot_->by_host.emplace(result->fqdn, result);
      snapshot_->services.push_back(std::move(result));
    });
    for (const auto& [name, unused] : slices) {
      for (const EndpointSlice* slice : unused) report_unused(*slice);
    }
  }

  void add_addresses(const Service& service, const std::shared_ptr<const config::Service>& result) {
    for (const base::IpAddress& vip : result->vips) {
      for (const config::ServicePort& port : result->ports) {
        if (port.protocol == config::Protocol::not_tcp) continue;
        auto [holder, fresh] = snapshot_->by_vip.emplace(base::SocketAddress{vip, port.port}, result);
        if (fresh || holder->second == result) continue;
        report(Code::address_used_twice, service.metadata, Kind::service,
               "clusterIP " + holder->first.to_string() + " belongs to Service " + holder->second->namespace_name +
                   "/" + holder->second->name + " already");
      }
    }
  }

  void add_pods() {
    std::map<std::string_view, const Namespace*> namespaces;
    store_.for_each<Namespace>([&](const Namespace& home) { namespaces.emplace(home.metadata.name, &home); });
    std::unordered_set<base::IpAddress> leaving;  // addresses held so far by a pod that is being deleted
    store_.for_each<Pod>([&](const Pod& pod) {
      // A finished pod's address may be another's by now.
      if (pod.phase == PodPhase::succeeded || pod.phase == PodPhase::failed) return;
      bool here = is_here(pod);
      auto home = namespaces.find(pod.metadata.namespace_name);
      std::vector<config::Finding> of_pod;
      auto result = shared_pod(translate_pod(pod, home == namespaces.end() ? nullptr : home->second, of_pod), pod);
      if (here) {
        snapshot_->pods.push_back(result);
        std::move(of_pod.begin(), of_pod.end(), std::back_inserter(snapshot_->findings));
      }
      if (pod.host_network) return;
      for (const base::IpAddress& ip : pod.ips) add_pod_address(ip, pod, result, leaving);
    });
  }

  // Files may leave out what the scheduler would have filled in.
  bool is_here(const Pod& pod) const {
    if (settings_.node_name.empty() || pod.node_name == settings_.node_name) return true;
    return pod.node_name.empty() && !pod.metadata.origin.file.empty();
  }

  // Pods of other nodes are found by their address only.
  std::shared_ptr<const config::Pod> shared_pod(config::Pod pod, const Pod& source) const {
    auto before = find_previous(previous_ ? &previous_->pods : nullptr, source.metadata);
    if (!before && previous_ && !source.ips.empty()) {
      auto found = previous_->pod_by_ip.find(source.ips.front());
      if (found != previous_->pod_by_ip.end()) before = found->second;
    }
    if (before && *before == pod) return before;
    return std::make_shared<const config::Pod>(std::move(pod));
  }

  void add_pod_address(const base::IpAddress& ip, const Pod& pod, const std::shared_ptr<const config::Pod>& result,
                       std::unordered_set<base::IpAddress>& leaving) {
    auto [holder, fresh] = snapshot_->pod_by_ip.emplace(ip, result);
    if (fresh) {
      if (pod.metadata.deleting) leaving.insert(ip);
      return;
    }
    if (pod.metadata.deleting) return;
    if (leaving.erase(ip) > 0) {
      holder->second = result;
      return;
    }
    report(Code::address_used_twice, pod.metadata, Kind::pod,
           "the address " + ip.to_string() + " belongs to Pod " + holder->second->qualified_name() + " already");
  }

  void report_unused(const EndpointSlice& slice) {
    if (slice.service.empty()) {
      report(Code::unused_slice, slice.metadata, Kind::endpoint_slice,
             "is used by no Service: it has no label kubernetes.io/service-name",
             "add the label with the Service's name");
    } else {
      report(Code::unused_slice, slice.metadata, Kind::endpoint_slice,
             "there is no Service " + shown(slice.service) + " in namespace " + slice.metadata.namespace_name);
    }
  }

  void report(Code code, const Metadata& metadata, Kind kind, std::string message, std::string fix = {}) {
    ObjectKey key{kind, metadata.namespace_name, metadata.name};
    snapshot_->findings.push_back(finding(code, metadata.origin, key.to_string(), std::move(message), std::move(fix)));
  }

  const ObjectStore& store_;
  const ClusterSettings& settings_;
  const config::Snapshot* previous_;
  std::shared_ptr<config::Snapshot> snapshot_;
};

}  // namespace

std::shared_ptr<const config::Snapshot> Translator::build(const ObjectStore& store,
                                                          const config::Snapshot* previous) const {
  return Build(store, settings_, previous).run();
}

}  // namespace weir::kubernetes
