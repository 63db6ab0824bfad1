// IstioRules: which VirtualServices and DestinationRules govern which Service, completed and in the order in which
// they win. Kept from one translation to the next. Included by the translation's sources only.
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
  explicit IstioRules(std::string cluster_domain) : cluster_domain_(std::move(cluster_domain)) {}

  // Forgets all and takes those of the store, the mesh's configuration first. A VirtualService that is the same as
  // before keeps its translation.
  void rebuild(const ObjectStore& store);
  // A VirtualService or DestinationRule has come, changed or gone. Returns the hosts that it concerns, patterns
  // among them.
  std::vector<std::string> apply(const Change& change);

  // Of the VirtualServices that name the host, the winning one first: the most specific, then the oldest.
  std::vector<std::shared_ptr<const config::VirtualService>> routes_of(std::string_view fqdn) const;
  // The policies for clients of a Service, in the order in which they are looked up.
  std::vector<config::ServicePolicy> policies_of(std::string_view fqdn, std::string_view namespace_name) const;

  const MeshConfig& mesh() const { return mesh_; }

  // check_istio.cpp: hosts that are no Service, subsets that nobody defines, objects that contradict each
  // other.
  void check(const config::Snapshot& snapshot, std::vector<config::Finding>& findings) const;

 private:
  struct Route {
    std::shared_ptr<const VirtualService> object;
    std::shared_ptr<const config::VirtualService> translated;
    const std::vector<std::string>& hosts() const { return translated->hosts; }
  };
  struct Policy {
    std::shared_ptr<const DestinationRule> object;
    std::vector<std::string> host;  // one, complete
    const std::vector<std::string>& hosts() const { return host; }
  };
  // Objects by the hosts that they name, complete names or patterns; those of one host from the oldest on.
  template <class T>
  class ByHost {
   public:
    void add(const T& entry);
    void remove(const T& entry);
    // Those whose host matches: exact ones, then the longest wildcard first; none twice. `host`: what matched.
    struct Match {
      std::string_view host;
      const T* entry;
    };
    std::vector<Match> find(std::string_view fqdn) const;
    using Entries = std::map<std::string, std::vector<T>, std::less<>>;
    const Entries& exact() const { return exact_; }
    const Entries& wild() const { return wild_; }

   private:
    Entries exact_, wild_;  // "*.foo.com" and "*"
  };
  using Name = std::pair<std::string, std::string>;  // namespace, name

  // The namespaces whose pods see the object, by its exportTo or else the mesh's; empty: all.
  std::vector<std::string> clients_of(const VirtualService& object) const;
  std::vector<std::string> clients_of(const DestinationRule& object) const;
  Route translate(const std::shared_ptr<const VirtualService>& object) const;
  Policy translate(const std::shared_ptr<const DestinationRule>& object) const;
  class Suggestions;
  void check_claims(const ByHost<Route>::Entries& entries, std::vector<config::Finding>& findings) const;
  void check_subsets(std::vector<config::Finding>& findings) const;
  void check_route(const config::Snapshot& snapshot, const Suggestions& suggestions, const VirtualService& object,
                   std::vector<config::Finding>& findings) const;

  std::string cluster_domain_;
  MeshConfig mesh_;
  std::map<Name, Route> routes_;
  std::map<Name, Policy> policies_;
  ByHost<Route> routes_by_host_;
  ByHost<Policy> policies_by_host_;
};

}  // namespace weir::kubernetes
