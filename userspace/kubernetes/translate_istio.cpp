#include "kubernetes/translate_istio.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "kubernetes/decode_istio.h"

namespace weir::kubernetes {
namespace {

// exportTo: "." is the object's own namespace, "*" is all, which is also what nothing means.
std::vector<std::string> visible_namespaces(const std::vector<std::string>& export_to, const std::string& own) {
  std::vector<std::string> names;
  for (const std::string& name : export_to) {
    if (name == "*") return {};
    names.push_back(name == "." ? own : name);
  }
  return names;
}

std::pair<std::string, std::string> name_of(const Metadata& metadata) {
  return {metadata.namespace_name, metadata.name};
}

// Older ones first; those of files, which have no age, by namespace and name.
bool is_older(const Metadata& a, const Metadata& b) {
  return std::tie(a.created, a.namespace_name, a.name) < std::tie(b.created, b.namespace_name, b.name);
}

// The first trafficPolicy counts, and the first subset of a name.
void merge(const DestinationRule& rule, config::ServicePolicy& into) {
  if (into.policy == config::PolicyWithPorts()) into.policy = rule.policy;
  for (const config::Subset& subset : rule.subsets) {
    const bool known = std::any_of(into.subsets.begin(), into.subsets.end(),
                                   [&](const config::Subset& other) { return other.name == subset.name; });
    if (!known) into.subsets.push_back(subset);
  }
}

}  // namespace

std::string complete_host(std::string_view host, std::string_view namespace_name, std::string_view cluster_domain) {
  std::string complete(host);
  if (host.find('.') == std::string_view::npos && host != "*")
    complete.append(".").append(namespace_name).append(".svc.").append(cluster_domain);
  return lower_case(std::move(complete));
}

bool host_matches(std::string_view pattern, std::string_view host) {
  if (pattern == "*") return true;
  if (!pattern.starts_with("*.")) return pattern == host;
  return host.size() > pattern.size() - 1 && host.ends_with(pattern.substr(1));
}

template <class T>
void IstioRules::ByHost<T>::add(const T& entry) {
  for (const std::string& host : entry.hosts()) {
    std::vector<T>& known = (host.starts_with('*') ? wild_ : exact_)[host];
    const auto at = std::find_if(known.begin(), known.end(), [&](const T& other) {
      return !is_older(other.object->metadata, entry.object->metadata);
    });
    if (at == known.end() || at->object != entry.object) known.insert(at, entry);  // it may name a host twice
  }
}

template <class T>
void IstioRules::ByHost<T>::remove(const T& entry) {
  for (const std::string& host : entry.hosts()) {
    Entries& entries = host.starts_with('*') ? wild_ : exact_;
    const auto known = entries.find(host);
    if (known == entries.end()) continue;
    std::erase_if(known->second, [&](const T& other) { return other.object == entry.object; });
    if (known->second.empty()) entries.erase(known);
  }
}

template <class T>
std::vector<typename IstioRules::ByHost<T>::Match> IstioRules::ByHost<T>::find(std::string_view fqdn) const {
  std::vector<const typename Entries::value_type*> hosts;
  for (const auto& pattern : wild_)
    if (host_matches(pattern.first, fqdn)) hosts.push_back(&pattern);
  std::sort(hosts.begin(), hosts.end(), [](const auto* a, const auto* b) { return a->first.size() > b->first.size(); });
  if (const auto at = exact_.find(fqdn); at != exact_.end()) hosts.insert(hosts.begin(), &*at);
  std::vector<Match> found;
  for (const auto* host : hosts) {
    for (const T& entry : host->second) {
      const bool known = std::any_of(found.begin(), found.end(),
                                     [&](const Match& match) { return match.entry->object == entry.object; });
      if (!known) found.push_back({host->first, &entry});
    }
  }
  return found;
}

void IstioRules::rebuild(const ObjectStore& store) {
  MeshConfig mesh;
  store.for_each<MeshConfig>([&](const MeshConfig& only) { mesh = only; });
  const bool same_mesh = std::exchange(mesh_, mesh) == mesh;
  const auto before = std::exchange(routes_, {});
  policies_.clear();
  routes_by_host_ = {};
  policies_by_host_ = {};
  store.for_each_shared<VirtualService>([&](const std::shared_ptr<const VirtualService>& object) {
    const auto known = before.find(name_of(object->metadata));
    const bool same = same_mesh && known != before.end() && known->second.object == object;
    Route route = same ? known->second : translate(object);
    if (known != before.end() && *known->second.translated == *route.translated)
      route.translated = known->second.translated;
    if (route.translated->rules.empty()) return;  // for gateways only
    routes_by_host_.add(route);
    routes_.emplace(name_of(object->metadata), std::move(route));
  });
  store.for_each_shared<DestinationRule>([&](const std::shared_ptr<const DestinationRule>& object) {
    Policy policy = translate(object);
    policies_by_host_.add(policy);
    policies_.emplace(name_of(object->metadata), std::move(policy));
  });
}

std::vector<std::string> IstioRules::apply(const Change& change) {
  std::vector<std::string> hosts;
  const Name name{change.key.namespace_name, change.key.name};
  const auto replace = [&](auto& entries, auto& by_host, const auto& next) {
    if (const auto known = entries.find(name); known != entries.end()) {
      hosts = known->second.hosts();
      by_host.remove(known->second);
      entries.erase(known);
    }
    if (!next) return;
    hosts.insert(hosts.end(), next->hosts().begin(), next->hosts().end());
    by_host.add(*next);
    entries.emplace(name, *next);
  };
  if (change.key.kind == Kind::virtual_service) {
    std::optional<Route> next;
    if (change.after) next = translate(shared_as<VirtualService>(change.after));
    if (next && next->translated->rules.empty()) next.reset();  // for gateways only
    replace(routes_, routes_by_host_, next);
  } else {
    std::optional<Policy> next;
    if (change.after) next = translate(shared_as<DestinationRule>(change.after));
    replace(policies_, policies_by_host_, next);
  }
  return hosts;
}

std::vector<std::string> IstioRules::clients_of(const VirtualService& object) const {
  return visible_namespaces(object.export_to.empty() ? mesh_.virtual_service_export_to : object.export_to,
                            object.metadata.namespace_name);
}

std::vector<std::string> IstioRules::clients_of(const DestinationRule& object) const {
  // One that chooses its clients' pods chooses among those of its own namespace, whatever exportTo says.
  if (!object.workload_selector.empty()) return {object.metadata.namespace_name};
  return visible_namespaces(object.export_to.empty() ? mesh_.destination_rule_export_to : object.export_to,
                            object.metadata.namespace_name);
}

IstioRules::Route IstioRules::translate(const std::shared_ptr<const VirtualService>& object) const {
  config::VirtualService result;
  result.namespace_name = object->metadata.namespace_name;
  result.name = object->metadata.name;
  result.export_to = clients_of(*object);
  for (const std::string& host : object->hosts)
    result.hosts.push_back(complete_host(host, result.namespace_name, cluster_domain_));
  result.rules = object->http;
  for (config::RouteRule& rule : result.rules) {
    for (config::RouteDestination& destination : rule.destinations)
      destination.host = complete_host(destination.host, result.namespace_name, cluster_domain_);
    if (!object->idempotent_methods) continue;
    if (!rule.retries) rule.retries = mesh_.default_retries;
    rule.retries->idempotent_methods = object->idempotent_methods;
  }
  return {object, std::make_shared<const config::VirtualService>(std::move(result))};
}

IstioRules::Policy IstioRules::translate(const std::shared_ptr<const DestinationRule>& object) const {
  return {object, {complete_host(object->host, object->metadata.namespace_name, cluster_domain_)}};
}

std::vector<std::shared_ptr<const config::VirtualService>> IstioRules::routes_of(std::string_view fqdn) const {
  std::vector<std::shared_ptr<const config::VirtualService>> result;
  for (const auto& match : routes_by_host_.find(fqdn)) result.push_back(match.entry->translated);
  return result;
}

std::vector<config::ServicePolicy> IstioRules::policies_of(std::string_view fqdn,
                                                           std::string_view service_namespace) const {
  const auto matching = policies_by_host_.find(fqdn);
  std::vector<config::ServicePolicy> result;
  // Of one namespace: host by host, the most specific first, as long as there are clients that see none of the others;
  // of each host those with a selector, and then the rest, merged if the same clients see them.
  const auto add = [&](std::string_view home, config::PolicyScope scope) {
    std::string_view host;
    bool for_all = false;
    std::vector<config::ServicePolicy> merged;  // of `host`
    const auto next_host = [&] {
      std::move(merged.begin(), merged.end(), std::back_inserter(result));
      merged.clear();
    };
    for (const auto& match : matching) {
      const DestinationRule& rule = *match.entry->object;
      if (rule.metadata.namespace_name != home) continue;
      if (!host.empty() && host != match.host) {
        if (for_all) break;
        next_host();
      }
      host = match.host;
      scope.visible_to = clients_of(rule);
      scope.workload = rule.workload_selector;
      if (!rule.workload_selector.empty()) {
        result.push_back({scope, rule.policy, rule.subsets});
        continue;
      }
      for_all = for_all || scope.visible_to.empty();
      const auto same = std::find_if(merged.begin(), merged.end(),
                                     [&](const config::ServicePolicy& other) { return other.scope == scope; });
      merge(rule, same == merged.end() ? merged.emplace_back(config::ServicePolicy{scope, {}, {}}) : *same);
    }
    next_host();
  };
  std::set<std::string_view> homes;
  for (const auto& match : matching) homes.insert(match.entry->object->metadata.namespace_name);
  for (const std::string_view home : homes)
    if (home != mesh_.root_namespace) add(home, {std::string(home), {}, {}});
  if (homes.contains(service_namespace)) add(service_namespace, {});
  if (homes.contains(mesh_.root_namespace) && service_namespace != mesh_.root_namespace) add(mesh_.root_namespace, {});
  return result;
}

}  // namespace weir::kubernetes
