#include "kubernetes/translate_istio.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>

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

// Whether there may be clients that see both. Of lists of visible_namespaces().
bool share_clients(const std::vector<std::string>& one, const std::vector<std::string>& other) {
  return one.empty() || other.empty() ||
         std::find_first_of(one.begin(), one.end(), other.begin(), other.end()) != one.end();
}

config::Finding about(Code code, Kind kind, const Metadata& metadata, std::string message, std::string fix = {}) {
  return finding(code, metadata.origin, ObjectKey{kind, metadata.namespace_name, metadata.name}.to_string(),
                 std::move(message), std::move(fix));
}

// The indices whose host matches: exact ones, then the longest wildcard first.
std::vector<size_t> by_specificity(std::string_view fqdn,
                                   const std::map<std::string, std::vector<size_t>, std::less<>>& exact,
                                   const std::vector<std::pair<std::string, size_t>>& wild) {
  std::vector<size_t> found;
  if (const auto at = exact.find(fqdn); at != exact.end()) found = at->second;
  std::vector<std::pair<std::string, size_t>> matching;
  for (const auto& entry : wild)
    if (host_matches(entry.first, fqdn)) matching.push_back(entry);
  std::stable_sort(matching.begin(), matching.end(),
                   [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  for (const auto& [host, index] : matching)
    if (std::find(found.begin(), found.end(), index) == found.end()) found.push_back(index);
  return found;
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

IstioRules::IstioRules(const ObjectStore& store, const ClusterSettings& settings, const MeshConfig& mesh,
                       const config::Snapshot* previous, std::vector<config::Finding>& findings)
    : settings_(settings), mesh_(mesh) {
  add_routes(store, previous, findings);
  add_policies(store, findings);
}

// The namespaces whose pods see the object, by its exportTo or else the mesh's; empty: all.
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

void IstioRules::add_routes(const ObjectStore& store, const config::Snapshot* previous,
                            std::vector<config::Finding>& findings) {
  store.for_each<VirtualService>([&](const VirtualService& object) {
    config::VirtualService result;
    result.namespace_name = object.metadata.namespace_name;
    result.name = object.metadata.name;
    result.export_to = clients_of(object);
    for (const std::string& host : object.hosts)
      result.hosts.push_back(complete_host(host, result.namespace_name, settings_.cluster_domain));
    result.rules = object.http;
    for (config::RouteRule& rule : result.rules) {
      for (config::RouteDestination& destination : rule.destinations)
        destination.host = complete_host(destination.host, result.namespace_name, settings_.cluster_domain);
      if (!object.idempotent_methods) continue;
      if (!rule.retries) rule.retries = mesh_.default_retries;
      rule.retries->idempotent_methods = object.idempotent_methods;
    }
    std::shared_ptr<const config::VirtualService> shared;
    if (previous) {
      const auto& before = previous->virtual_services;
      const auto at = std::lower_bound(before.begin(), before.end(), result, [](const auto& a, const auto& b) {
        return std::tie(a->namespace_name, a->name) < std::tie(b.namespace_name, b.name);
      });
      if (at != before.end() && **at == result) shared = *at;
    }
    if (!shared) shared = std::make_shared<const config::VirtualService>(std::move(result));
    services_.push_back(shared);
    // One that is for gateways only has no rules here.
    if (!shared->rules.empty()) routes_.push_back({&object, std::move(shared)});
  });
  std::stable_sort(routes_.begin(), routes_.end(), [](const Route& a, const Route& b) {
    return a.object->metadata.created < b.object->metadata.created;
  });
  std::map<std::string, std::vector<size_t>> wild_claims;
  for (size_t i = 0; i < routes_.size(); ++i) {
    for (const std::string& host : routes_[i].translated->hosts) {
      const bool wild = host.starts_with('*');
      std::vector<size_t>& claims = wild ? wild_claims[host] : routes_by_host_[host];
      if (!claims.empty() && claims.back() == i) continue;  // named twice by the same object
      if (wild) wild_routes_.emplace_back(host, i);
      const auto holder = std::find_if(claims.begin(), claims.end(), [&](size_t earlier) {
        return share_clients(routes_[earlier].translated->export_to, routes_[i].translated->export_to);
      });
      if (holder != claims.end()) {
        const config::VirtualService& first = *routes_[*holder].translated;
        findings.push_back(about(Code::host_claimed_twice, Kind::virtual_service, routes_[i].object->metadata,
                                 "the host " + shown(host) + " belongs to VirtualService " + first.namespace_name +
                                     "/" + first.name +
                                     " already, which is older or comes first by name: for clients that " +
                                     "see both, none of these rules applies",
                                 "put the rules into one VirtualService"));
      }
      claims.push_back(i);
    }
  }
}

void IstioRules::add_policies(const ObjectStore& store, std::vector<config::Finding>& findings) {
  store.for_each<DestinationRule>([&](const DestinationRule& object) {
    policies_.push_back(
        {&object, complete_host(object.host, object.metadata.namespace_name, settings_.cluster_domain)});
  });
  std::stable_sort(policies_.begin(), policies_.end(), [](const Policy& a, const Policy& b) {
    return a.object->metadata.created < b.object->metadata.created;
  });
  // Those that are merged: of one namespace, for one host and the same clients.
  std::map<std::tuple<std::string, std::string, std::vector<std::string>, std::string>, const DestinationRule*> subsets;
  for (size_t i = 0; i < policies_.size(); ++i) {
    const Policy& policy = policies_[i];
    if (policy.host.starts_with('*'))
      wild_policies_.emplace_back(policy.host, i);
    else
      policies_by_host_[policy.host].push_back(i);
    if (!policy.object->workload_selector.empty()) continue;
    const std::string& home = policy.object->metadata.namespace_name;
    const std::vector<std::string> visible = clients_of(*policy.object);
    for (const config::Subset& subset : policy.object->subsets) {
      const auto [first, fresh] = subsets.try_emplace({home, policy.host, visible, subset.name}, policy.object);
      if (!fresh)
        findings.push_back(about(Code::subset_defined_twice, Kind::destination_rule, policy.object->metadata,
                                 "the subset " + shown(subset.name) + " of " + shown(policy.host) +
                                     " is defined by DestinationRule " + first->second->metadata.namespace_name + "/" +
                                     first->second->metadata.name + " already, which counts"));
    }
  }
}

std::vector<std::shared_ptr<const config::VirtualService>> IstioRules::routes_of(std::string_view fqdn) const {
  std::vector<std::shared_ptr<const config::VirtualService>> result;
  for (const size_t index : by_specificity(fqdn, routes_by_host_, wild_routes_))
    result.push_back(routes_[index].translated);
  return result;
}

std::vector<config::ServicePolicy> IstioRules::policies_of(std::string_view fqdn,
                                                           std::string_view service_namespace) const {
  const std::vector<size_t> matching = by_specificity(fqdn, policies_by_host_, wild_policies_);
  std::vector<config::ServicePolicy> result;
  // Of one namespace: host by host, the most specific first, as long as there are clients that see none of the others;
  // of each host those with a selector, and then the rest, merged if the same clients see them.
  const auto add = [&](std::string_view home, config::PolicyScope scope) {
    const std::string* host = nullptr;
    bool for_all = false;
    std::vector<config::ServicePolicy> merged;  // of `host`
    const auto next_host = [&] {
      std::move(merged.begin(), merged.end(), std::back_inserter(result));
      merged.clear();
    };
    for (const size_t index : matching) {
      const Policy& policy = policies_[index];
      const DestinationRule& rule = *policy.object;
      if (rule.metadata.namespace_name != home) continue;
      if (host && *host != policy.host) {
        if (for_all) break;
        next_host();
      }
      host = &policy.host;
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
  for (const size_t index : matching) homes.insert(policies_[index].object->metadata.namespace_name);
  for (const std::string_view home : homes)
    if (home != mesh_.root_namespace) add(home, {std::string(home), {}, {}});
  if (homes.contains(service_namespace)) add(service_namespace, {});
  if (homes.contains(mesh_.root_namespace) && service_namespace != mesh_.root_namespace) add(mesh_.root_namespace, {});
  return result;
}

}  // namespace weir::kubernetes
