#include "kubernetes/translate.h"

#include <algorithm>
#include <tuple>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

std::string zone_of(const ObjectStore& store, const std::string& node_name) {
  const auto node = store.find({Kind::node, {}, node_name});
  if (!node) return {};
  const Labels& labels = metadata_of(*node).labels;
  const auto zone = labels.find("topology.kubernetes.io/zone");
  return zone == labels.end() ? std::string() : zone->second;
}

using Addresses = std::vector<std::pair<base::SocketAddress, uint32_t>>;

// Whether Directory::by_address is the same for both.
bool same_vips(const config::Service& a, const config::Service& b) {
  const auto vips = [](const config::Service& service) {
    Addresses all;
    service.for_each_vip([&](const auto& address, uint32_t port) { all.emplace_back(address, port); });
    return all;
  };
  return vips(a) == vips(b);
}

// Whether Snapshot::by_endpoint is.
bool same_endpoint_addresses(const config::Service& a, const config::Service& b) {
  const auto addresses = [](const config::Service& service) {
    Addresses all;
    service.for_each_endpoint_address([&](const auto& address, uint32_t port) { all.emplace_back(address, port); });
    return all;
  };
  return addresses(a) == addresses(b);
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
    std::tie(snapshot_->pods, snapshot_->pods_by_address) = translate_pods(store_, settings_, previous_, findings_);
    add_services();
    snapshot_->directory = directory_;
    add_endpoints();
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
                                      labels_in(store_, service, *snapshot_->pods_by_address),
                                      *snapshot_->pods_by_address, before, findings_);
      add_vips(*result);
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
  void add_vips(const config::Service& result) {
    const auto place = static_cast<uint32_t>(snapshot_->services.size());
    result.for_each_vip([&](const base::SocketAddress& address, uint32_t port) {
      const auto [holder, fresh] = directory_->by_address.try_emplace(address, config::Directory::Place{place, port});
      if (!fresh && holder->second.service != place) conflicts_[{place, holder->second.service}].add(address);
    });
  }

  // After all VIPs.
  void add_endpoints() {
    EndpointPlaces endpoints = place_endpoints(*snapshot_);
    snapshot_->by_endpoint = std::make_shared<const config::Directory::Places>(std::move(endpoints.places));
    conflicts_.merge(endpoints.conflicts);
    for (const auto& [places, lost] : conflicts_) {
      const config::Service& holder = *snapshot_->services[places.second];
      // How many they are changes with the pods, and each text is an Event.
      report_lost(Code::address_used_twice, places.first,
                  (lost.of_endpoints ? "addresses of its endpoints, " + lost.first.to_string() + " for one, belong"
                   : lost.count == 1 ? "clusterIP " + to_string(lost) + " belongs"
                                     : "clusterIP " + to_string(lost) + " belong") +
                      " to Service " + holder.namespace_name + "/" + holder.name + " already");
    }
    for (const auto& [place, lost] : endpoints.beyond)
      report_lost(Code::too_many_addresses, place,
                  "connections to its endpoints " + to_string(lost) + " are not diverted: those of all Services are " +
                      std::to_string(kMostEndpointAddressesOfAll) + " at most");
  }

  void report_lost(Code code, uint32_t place, std::string message) {
    const config::Service& service = *snapshot_->services[place];
    const auto object = store_.find({Kind::service, service.namespace_name, service.name});
    report(code, metadata_of(*object), Kind::service, std::move(message));
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
  std::map<std::pair<uint32_t, uint32_t>, LostAddresses> conflicts_;  // by the place of who gets them not, and who has
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
  Touched touched;
  for (const Change& change : changes)
    if (!note(change, previous, touched)) return nullptr;
  auto& services = touched.services;
  std::sort(services.begin(), services.end());
  services.erase(std::unique(services.begin(), services.end()), services.end());
  auto next = std::make_shared<config::Snapshot>(previous);
  ++next->revision;
  std::vector<config::Finding> unused;
  bool same_endpoints = true;
  if (touched.pods) std::tie(next->pods, next->pods_by_address) = translate_pods(store, settings_, &previous, unused);
  for (const auto& [namespace_name, name] : services) {
    const auto object = store.find({Kind::service, namespace_name, name});
    if (!object) continue;  // slices of none
    const Service& service = std::get<Service>(*object);
    const auto* before = next->service_named(fqdn_of(service, settings_));
    if (!before) return nullptr;
    const auto own = slices_.find({namespace_name, name});
    auto result =
        translate_service(service, own == slices_.end() ? Slices() : own->second, settings_, *rules_,
                          labels_in(store, service, *next->pods_by_address), *next->pods_by_address, *before, unused);
    if (!same_vips(**before, *result)) return nullptr;
    same_endpoints &= same_endpoint_addresses(**before, *result);
    next->services[static_cast<size_t>(before - next->services.data())] = std::move(result);
  }
  if (!same_endpoints)
    next->by_endpoint = std::make_shared<const config::Directory::Places>(place_endpoints(*next).places);
  return next;
}

bool Translator::note(const Change& change, const config::Snapshot& previous, Touched& touched) {
  switch (change.key.kind) {
    case Kind::pod:
      touched.pods = true;
      note_services_of(change, touched.services);
      return true;
    case Kind::namespace_:
      touched.pods = true;
      return true;
    case Kind::daemon_set:
    case Kind::gateway:
    case Kind::authorization_policy:
    case Kind::request_authentication:
    case Kind::peer_authentication:
      return true;
    case Kind::node:
    case Kind::mesh_config:
      return false;
    case Kind::service:
      touched.services.emplace_back(change.key.namespace_name, change.key.name);
      return change.before && change.after;
    case Kind::endpoint_slice:
      move_slice(change, touched.services);
      return true;
    case Kind::virtual_service:
    case Kind::destination_rule:
      break;
  }
  for (const std::string& host : rules_->apply(change)) {
    if (host.starts_with('*')) return false;
    if (const auto* service = previous.service_named(host))
      touched.services.emplace_back((*service)->namespace_name, (*service)->name);
  }
  return true;
}

// Those whose endpoints have another label by it: see labels_in().
void Translator::note_services_of(const Change& change, std::vector<ServiceName>& touched) const {
  const auto pod_of = [](const std::shared_ptr<const Object>& object) {
    return object ? &std::get<Pod>(*object) : nullptr;
  };
  const Pod *before = pod_of(change.before), *after = pod_of(change.after);
  const auto finished = [](const Pod& pod) {
    return pod.phase == PodPhase::succeeded || pod.phase == PodPhase::failed;
  };
  if (before && after && before->metadata.labels == after->metadata.labels && before->ips == after->ips &&
      before->metadata.deleting == after->metadata.deleting && before->host_network == after->host_network &&
      finished(*before) == finished(*after))
    return;
  const auto has = [](const Pod* pod, const base::IpAddress& ip) {
    return pod && std::find(pod->ips.begin(), pod->ips.end(), ip) != pod->ips.end();
  };
  for (const auto& entry : slices_) {
    const ServiceName& name = entry.first;
    const bool concerned = std::any_of(entry.second.begin(), entry.second.end(), [&](const auto& slice) {
      return std::any_of(slice->endpoints.begin(), slice->endpoints.end(), [&](const SliceEndpoint& endpoint) {
        if (endpoint.pod == change.key.name && name.first == change.key.namespace_name) return true;
        return !endpoint.addresses.empty() &&
               (has(before, endpoint.addresses.front()) || has(after, endpoint.addresses.front()));
      });
    });
    if (concerned) touched.push_back(name);
  }
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
