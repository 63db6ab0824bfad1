// IstioRules: which VirtualServices and DestinationRules govern which Service, completed and in the order in which
// they win. Built once for a translation; refers to the store. Included by the translation's sources only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kubernetes/findings.h"
#include "kubernetes/translate.h"

namespace weir::kubernetes {

// Host names as Istio compares them: without a dot they are Services of `namespace_name`; lower case.
std::string complete_host(std::string_view host, std::string_view namespace_name, std::string_view cluster_domain);
// `pattern` is a complete name, "*.rest", or "*".
bool host_matches(std::string_view pattern, std::string_view host);

class IstioRules {
 public:
  // What equals an object of `previous` (which may be null) is shared with it.
  IstioRules(const ObjectStore& store, const ClusterSettings& settings, const MeshConfig& mesh,
             const config::Snapshot* previous, std::vector<config::Finding>& findings);

  // Of the VirtualServices that name the host, the winning one first: the most specific, then the oldest.
  std::vector<std::shared_ptr<const config::VirtualService>> routes_of(std::string_view fqdn) const;
  // The policies for clients of a Service, in the order in which they are looked up.
  std::vector<config::ServicePolicy> policies_of(std::string_view fqdn, std::string_view namespace_name) const;
  const std::vector<std::shared_ptr<const config::VirtualService>>& virtual_services() const { return services_; }

  // Findings that need all Services: hosts that are none, subsets that nobody defines.
  void check(const config::Snapshot& snapshot, std::vector<config::Finding>& findings) const;

 private:
  struct Route {
    const VirtualService* object;
    std::shared_ptr<const config::VirtualService> translated;
  };
  struct Policy {
    const DestinationRule* object;
    std::string host;  // complete
  };
  void add_routes(const ObjectStore& store, const config::Snapshot* previous, std::vector<config::Finding>& findings);
  void add_policies(const ObjectStore& store, std::vector<config::Finding>& findings);
  class Suggestions;
  void check_route(const config::Snapshot& snapshot, const Suggestions& suggestions, const VirtualService& object,
                   std::vector<config::Finding>& findings) const;

  std::vector<std::string> clients_of(const VirtualService& object) const;
  std::vector<std::string> clients_of(const DestinationRule& object) const;

  ClusterSettings settings_;
  MeshConfig mesh_;
  std::vector<Route> routes_;  // the oldest first
  std::vector<Policy> policies_;
  std::map<std::string, std::vector<size_t>, std::less<>> routes_by_host_, policies_by_host_;  // exact hosts
  std::vector<std::pair<std::string, size_t>> wild_routes_, wild_policies_;                    // "*.foo.com"
  std::vector<std::shared_ptr<const config::VirtualService>> services_;                        // by namespace, name
};

}  // namespace weir::kubernetes
