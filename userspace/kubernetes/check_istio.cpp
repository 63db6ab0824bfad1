// What is wrong with VirtualServices and DestinationRules beside each other and the Services that there are.
#include <algorithm>
#include <set>
#include <tuple>

#include "kubernetes/findings.h"
#include "kubernetes/translate_istio.h"

namespace weir::kubernetes {
namespace {

// At `line` of its file; 0: where the object begins.
config::Finding about(Code code, Kind kind, const Metadata& metadata, int line, std::string message,
                      std::string fix = {}) {
  const Origin origin{metadata.origin.file, line > 0 ? line : metadata.origin.line};
  return finding(code, origin, ObjectKey{kind, metadata.namespace_name, metadata.name}.to_string(), std::move(message),
                 std::move(fix));
}

// Whether there may be clients that see both.
bool share_clients(const std::vector<std::string>& one, const std::vector<std::string>& other) {
  return one.empty() || other.empty() ||
         std::find_first_of(one.begin(), one.end(), other.begin(), other.end()) != one.end();
}

// "; defined are 'v1', 'v2'", or nothing.
std::string known_subsets(const config::Service& service) {
  constexpr size_t kEnough = 200;
  std::set<std::string_view> names;
  for (const config::ServicePort& port : service.ports)
    for (const config::ClusterView& view : port.views)
      for (const auto& [name, cluster] : view.subsets) names.insert(name);
  std::string text;
  for (const std::string_view name : names)
    if (text.size() < kEnough) text += (text.empty() ? "; defined are " : ", ") + shown(name);
  return text;
}

}  // namespace

// The Services by their names, for what an unknown host was probably meant to be.
class IstioRules::Suggestions {
 public:
  explicit Suggestions(const config::Snapshot& snapshot) {
    for (const auto& service : snapshot.services) services_.emplace(service->name, service.get());
  }
  // The likely fix: a Service of the same name, if possible of the namespace that stands there.
  std::string instead_of(std::string_view host) const {
    const auto [first, last] = services_.equal_range(host.substr(0, host.find('.')));
    if (first == last) return "create the Service, or correct the host";
    const std::string dotted = std::string(host) + ".";
    const auto same_namespace = std::find_if(first, last, [&](const auto& entry) {
      return dotted.starts_with(entry.second->name + "." + entry.second->namespace_name + ".");
    });
    return "write " + shown((same_namespace == last ? first : same_namespace)->second->fqdn);
  }

 private:
  std::multimap<std::string_view, const config::Service*> services_;
};

void IstioRules::check(const config::Snapshot& snapshot, std::vector<config::Finding>& findings) const {
  const Suggestions suggestions(snapshot);
  for (const auto& [name, route] : routes_) {
    for (const std::string& host : route.hosts()) {
      if (host.starts_with('*') || snapshot.service_named(host)) continue;
      findings.push_back(about(Code::unknown_host, Kind::virtual_service, route.object->metadata, 0,
                               "its host " + shown(host) + " is no Service: no call is dialled to it",
                               suggestions.instead_of(host)));
    }
    check_route(snapshot, suggestions, *route.object, findings);
  }
  for (const auto& [name, policy] : policies_) {
    const std::string& host = policy.host.front();
    if (host.starts_with('*') || snapshot.service_named(host)) continue;
    findings.push_back(about(Code::unknown_host, Kind::destination_rule, policy.object->metadata, 0,
                             "its host " + shown(host) + " is no Service: it applies to nothing",
                             suggestions.instead_of(host)));
  }
  check_claims(routes_by_host_.exact(), findings);
  check_claims(routes_by_host_.wild(), findings);
  check_subsets(findings);
}

void IstioRules::check_claims(const ByHost<Route>::Entries& entries, std::vector<config::Finding>& findings) const {
  for (const auto& [host, claims] : entries) {
    for (auto claim = claims.begin(); claim != claims.end(); ++claim) {
      const auto holder = std::find_if(claims.begin(), claim, [&](const Route& earlier) {
        return share_clients(earlier.translated->export_to, claim->translated->export_to);
      });
      if (holder == claim) continue;
      const config::VirtualService& first = *holder->translated;
      findings.push_back(about(Code::host_claimed_twice, Kind::virtual_service, claim->object->metadata, 0,
                               "the host " + shown(host) + " belongs to VirtualService " + first.namespace_name + "/" +
                                   first.name + " already, which is older or comes first by name: for clients that " +
                                   "see both, none of these rules applies",
                               "put the rules into one VirtualService"));
    }
  }
}

// Those that are merged: of one namespace, for one host and the same clients.
void IstioRules::check_subsets(std::vector<config::Finding>& findings) const {
  std::map<std::tuple<std::string, std::string, std::vector<std::string>, std::string>, const DestinationRule*> subsets;
  const auto check_host = [&](const std::string& host, const std::vector<Policy>& policies) {
    for (const Policy& policy : policies) {
      if (!policy.object->workload_selector.empty()) continue;
      const std::string& home = policy.object->metadata.namespace_name;
      const std::vector<std::string> visible = clients_of(*policy.object);
      for (const config::Subset& subset : policy.object->subsets) {
        const auto [first, fresh] = subsets.try_emplace({home, host, visible, subset.name}, policy.object.get());
        if (!fresh)
          findings.push_back(about(Code::subset_defined_twice, Kind::destination_rule, policy.object->metadata, 0,
                                   "the subset " + shown(subset.name) + " of " + shown(host) +
                                       " is defined by DestinationRule " + first->second->metadata.namespace_name +
                                       "/" + first->second->metadata.name + " already, which counts"));
      }
    }
  };
  for (const auto& [host, policies] : policies_by_host_.exact()) check_host(host, policies);
  for (const auto& [host, policies] : policies_by_host_.wild()) check_host(host, policies);
}

void IstioRules::check_route(const config::Snapshot& snapshot, const Suggestions& suggestions,
                             const VirtualService& object, std::vector<config::Finding>& findings) const {
  std::set<std::pair<std::string, std::string>> seen;
  for (const DestinationPlace& place : object.places) {
    const std::string host = complete_host(place.host, object.metadata.namespace_name, cluster_domain_);
    const auto* service = snapshot.service_named(host);
    const bool known = service != nullptr;
    if (!seen.emplace(host, known ? place.subset : std::string()).second) continue;
    if (!known) {
      findings.push_back(about(Code::unknown_host, Kind::virtual_service, object.metadata, place.host_line,
                               "it routes to " + shown(host) + ", which is no Service: these calls fail (NC)",
                               suggestions.instead_of(host)));
    } else if (!place.subset.empty() && !(*service)->has_subset(place.subset)) {
      findings.push_back(about(Code::unknown_subset, Kind::virtual_service, object.metadata, place.subset_line,
                               "it routes to the subset " + shown(place.subset) + " of " + shown(host) +
                                   ", which no DestinationRule defines: these calls fail (NC)",
                               "define the subset in a DestinationRule for the host" + known_subsets(**service)));
    }
  }
}

}  // namespace weir::kubernetes
