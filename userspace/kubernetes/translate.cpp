#include "kubernetes/translate.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

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

std::string zone_of(const ObjectStore& store, const std::string& node_name) {
  const auto node = store.find({Kind::node, {}, node_name});
  if (!node) return {};
  const Labels& labels = metadata_of(*node).labels;
  const auto zone = labels.find("topology.kubernetes.io/zone");
  return zone == labels.end() ? std::string() : zone->second;
}

// Whether Directory::by_vip is the same for both.
bool same_addresses(const config::Service& a, const config::Service& b) {
  const auto tcp_ports = [](const config::Service& service) {
    std::vector<uint16_t> ports;
    for (const config::ServicePort& port : service.ports)
      if (port.protocol != config::Protocol::not_tcp) ports.push_back(port.port);
    return ports;
  };
  return a.vips == b.vips && tcp_ports(a) == tcp_ports(b);
}

}  // namespace

// One complete translation.
class Translator::Build {
 public:
  Build(const ObjectStore& store, const Translator& translator, const config::Snapshot* previous)
      : store_(store), translator_(translator), settings_(translator.settings_), previous_(previous) {}

  std::shared_ptr<const config::Snapshot> run() {
    snapshot_->revision = previous_ ? previous_->revision + 1 : 1;
    snapshot_->default_retries = translator_.rules_->mesh().default_retries;
    findings_ = store_.findings();
    add_pods();
    add_services();
    snapshot_->directory = directory_;
    translator_.rules_->check(*snapshot_, findings_);
    std::sort(findings_.begin(), findings_.end(), [](const auto& a, const auto& b) {
      return std::tie(a.file, a.line, a.object, a.code, a.message) <
             std::tie(b.file, b.line, b.object, b.code, b.message);
    });
    snapshot_->findings = std::make_shared<const std::vector<config::Finding>>(std::move(findings_));
    return snapshot_;
  }

 private:
  void add_services() {
    size_t used = 0;
    store_.for_each<Service>([&](const Service& service) {
      const auto own = translator_.slices_.find({service.metadata.namespace_name, service.metadata.name});
      const bool any = own != translator_.slices_.end();
      used += any;
      auto before = find_previous(previous_ ? &previous_->services : nullptr, service.metadata);
      auto result = translate_service(service, any ? own->second : Slices(), settings_, *translator_.rules_,
                                      labels_in(store_, service, *directory_), before, findings_);
      add_addresses(service, *result);
      directory_->by_host.emplace(result->fqdn, snapshot_->services.size());
      snapshot_->services.push_back(std::move(result));
    });
    if (used == translator_.slices_.size()) return;
    for (const auto& [name, slices] : translator_.slices_) {
      if (store_.find({Kind::service, name.first, name.second})) continue;
      for (const auto& slice : slices) report_unused(*slice);
    }
  }

  // Of the next one in Snapshot::services.
  void add_addresses(const Service& service, const config::Service& result) {
    const size_t place = snapshot_->services.size();
    for (const base::IpAddress& vip : result.vips) {
      for (const config::ServicePort& port : result.ports) {
        if (port.protocol == config::Protocol::not_tcp) continue;
        const auto [holder, fresh] = directory_->by_vip.emplace(base::SocketAddress{vip, port.port}, place);
        if (fresh || holder->second == place) continue;
        const config::Service& other = *snapshot_->services[holder->second];
        report(Code::address_used_twice, service.metadata, Kind::service,
               "clusterIP " + holder->first.to_string() + " belongs to Service " + other.namespace_name + "/" +
                   other.name + " already");
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
      const bool here = is_here(pod);
      if (!here && pod.ips.empty()) return;  // it is known by its labels alone
      auto home = namespaces.find(pod.metadata.namespace_name);
      std::vector<config::Finding> of_pod;
      auto result = shared_pod(translate_pod(pod, home == namespaces.end() ? nullptr : home->second, of_pod), pod);
      if (here) {
        snapshot_->pods.push_back(result);
        std::move(of_pod.begin(), of_pod.end(), std::back_inserter(findings_));
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
      const auto found = previous_->directory->pod_by_ip.find(source.ips.front());
      if (found != previous_->directory->pod_by_ip.end()) before = found->second;
    }
    if (before && *before == pod) return before;
    return std::make_shared<const config::Pod>(std::move(pod));
  }

  void add_pod_address(const base::IpAddress& ip, const Pod& pod, const std::shared_ptr<const config::Pod>& result,
                       std::unordered_set<base::IpAddress>& leaving) {
    auto [holder, fresh] = directory_->pod_by_ip.emplace(ip, result);
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
    findings_.push_back(finding(code, metadata.origin, key.to_string(), std::move(message), std::move(fix)));
  }

  const ObjectStore& store_;
  const Translator& translator_;
  const ClusterSettings& settings_;
  const config::Snapshot* previous_;
  std::shared_ptr<config::Snapshot> snapshot_ = std::make_shared<config::Snapshot>();
  std::shared_ptr<config::Directory> directory_ = std::make_shared<config::Directory>();
  std::vector<config::Finding> findings_;
};

Translator::Translator(ClusterSettings settings)
    : settings_(std::move(settings)),
      zone_is_set_(!settings_.zone.empty()),
      rules_(std::make_unique<IstioRules>(settings_.cluster_domain)) {}

Translator::~Translator() = default;

std::shared_ptr<const config::Snapshot> Translator::build(const ObjectStore& store, const config::Snapshot* previous) {
  if (!zone_is_set_) settings_.zone = zone_of(store, settings_.node_name);
  rules_->rebuild(store);
  slices_.clear();
  store.for_each_shared<EndpointSlice>([this](const std::shared_ptr<const EndpointSlice>& slice) {
    slices_[{slice->metadata.namespace_name, slice->service}].push_back(slice);
  });
  return Build(store, *this, previous).run();
}

std::shared_ptr<const config::Snapshot> Translator::update(const ObjectStore& store, std::span<const Change> changes,
                                                           const config::Snapshot& previous) {
  std::vector<ServiceName> touched;
  for (const Change& change : changes)
    if (!note(change, previous, touched)) return nullptr;
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  auto next = std::make_shared<config::Snapshot>(previous);
  ++next->revision;
  std::vector<config::Finding> unused;
  for (const auto& [namespace_name, name] : touched) {
    const auto object = store.find({Kind::service, namespace_name, name});
    if (!object) continue;  // slices of none
    const Service& service = std::get<Service>(*object);
    const auto* before = next->service_named(fqdn_of(service, settings_));
    if (!before) return nullptr;
    const auto own = slices_.find({namespace_name, name});
    auto result = translate_service(service, own == slices_.end() ? Slices() : own->second, settings_, *rules_,
                                    labels_in(store, service, *next->directory), *before, unused);
    if (!same_addresses(**before, *result)) return nullptr;
    next->services[static_cast<size_t>(before - next->services.data())] = std::move(result);
  }
  return next;
}

bool Translator::note(const Change& change, const config::Snapshot& previous, std::vector<ServiceName>& touched) {
  switch (change.key.kind) {
    case Kind::pod:
    case Kind::namespace_:
    case Kind::node:
    case Kind::mesh_config:
      return false;
    case Kind::service:
      touched.emplace_back(change.key.namespace_name, change.key.name);
      return change.before && change.after;
    case Kind::endpoint_slice:
      move_slice(change, touched);
      return true;
    case Kind::virtual_service:
    case Kind::destination_rule:
      break;
  }
  for (const std::string& host : rules_->apply(change)) {
    if (host.starts_with('*')) return false;
    if (const auto* service = previous.service_named(host))
      touched.emplace_back((*service)->namespace_name, (*service)->name);
  }
  return true;
}

void Translator::move_slice(const Change& change, std::vector<ServiceName>& touched) {
  if (change.before) {
    const auto slice = shared_as<EndpointSlice>(change.before);
    const ServiceName name{change.key.namespace_name, slice->service};
    if (const auto known = slices_.find(name); known != slices_.end()) {
      std::erase(known->second, slice);
      if (known->second.empty()) slices_.erase(known);
    }
    touched.push_back(name);
  }
  if (change.after) {
    const auto slice = shared_as<EndpointSlice>(change.after);
    const ServiceName name{change.key.namespace_name, slice->service};
    Slices& slices = slices_[name];
    const auto at = std::lower_bound(slices.begin(), slices.end(), slice,
                                     [](const auto& a, const auto& b) { return a->metadata.name < b->metadata.name; });
    slices.insert(at, slice);
    touched.push_back(name);
  }
}

}  // namespace weir::kubernetes
