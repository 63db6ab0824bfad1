#include <algorithm>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

using config::Endpoint;

// A cluster has the endpoints of one family, the Service's first. A pod that reached the
// other VIP of a dual-stack Service has addresses of both families itself.
AddressType primary_family(const Service& service, const Slices& slices) {
  if (!service.ip_families.empty()) {
    return service.ip_families.front() == AddressFamily::ipv4 ? AddressType::ipv4 : AddressType::ipv6;
  }
  if (!service.cluster_ips.empty()) {
    return service.cluster_ips.front().is_v4() ? AddressType::ipv4 : AddressType::ipv6;
  }
  bool any_v4 = slices.empty() || std::any_of(slices.begin(), slices.end(), [](const EndpointSlice* slice) {
                  return slice->address_type == AddressType::ipv4;
                });
  return any_v4 ? AddressType::ipv4 : AddressType::ipv6;
}

bool same_port(const ServicePort& port, const SlicePort& candidate) {
  return candidate.name == port.name && candidate.protocol == port.protocol && candidate.port.has_value();
}

struct Candidate {
  Endpoint endpoint;
  bool ready;
  bool fallback;  // terminating, but still serving
};

config::Finding about(Code code, const Service& service, int line, std::string message, std::string fix = {}) {
  Origin origin{service.metadata.origin.file, line > 0 ? line : service.metadata.origin.line};
  ObjectKey key{Kind::service, service.metadata.namespace_name, service.metadata.name};
  return finding(code, origin, key.to_string(), std::move(message), std::move(fix));
}

// Or will have one, once the API server has assigned it.
bool has_vip(const Service& service) { return !service.headless && service.type != ServiceType::external_name; }

std::string port_text(const ServicePort& port) {
  return "port " + std::to_string(port.port) + (port.name.empty() ? "" : " " + shown(port.name));
}

void report_settings(const Service& service, const Slices& slices, const ClusterSettings& settings,
                     std::vector<config::Finding>& findings) {
  auto not_applied = [&](const std::string& setting, const std::string& instead) {
    findings.push_back(about(Code::setting_not_applied, service, 0, setting + " is not applied yet: " + instead));
  };
  if (service.session_affinity_client_ip) {
    not_applied("sessionAffinity ClientIP", "every call may go to any endpoint");
  }
  if (!service.traffic_distribution.empty()) {
    not_applied("trafficDistribution " + shown(service.traffic_distribution), "calls go to the endpoints of all zones");
  }
  bool hints = std::any_of(slices.begin(), slices.end(), [](const EndpointSlice* slice) {
    return std::any_of(slice->endpoints.begin(), slice->endpoints.end(),
                       [](const SliceEndpoint& endpoint) { return !endpoint.zone_hints.empty(); });
  });
  if (hints)
    not_applied("the zone hints of its EndpointSlices are set; topology", "calls go to the endpoints of all zones");
  auto headless = service.metadata.annotations.find("weir.dev/balance-headless");
  if (headless != service.metadata.annotations.end() && headless->second == "true") {
    not_applied("weir.dev/balance-headless", "connections to its pods' own addresses are not diverted");
  }
  if (service.internal_traffic_policy_local && settings.node_name.empty()) {
    findings.push_back(about(Code::unknown_own_node, service, 0,
                             "internalTrafficPolicy is Local, but the agent does not know its node: calls go to the "
                             "endpoints of all nodes",
                             "set the agent's node name"));
  }
  if (has_vip(service) && service.cluster_ips.empty()) {
    findings.push_back(about(Code::no_cluster_ip, service, 0,
                             "has no clusterIP, so there is no address whose connections could be diverted",
                             "in a cluster the API server assigns one; in a file write spec.clusterIP"));
  }
}

void report_port(const Service& service, const ServicePort& port, const config::ServicePort& result,
                 const Slices& slices, std::vector<config::Finding>& findings) {
  if (!has_vip(service) || result.protocol == config::Protocol::not_tcp) return;
  if (result.protocol == config::Protocol::unknown) {
    std::string meanwhile = result.divert_undeclared ? "it is detected from the first bytes of each connection"
                                                     : "its connections are not diverted";
    findings.push_back(about(Code::undeclared_protocol, service, port.line,
                             "the protocol of " + port_text(port) + " is not declared: " + meanwhile,
                             "declare it: appProtocol: grpc, or a port name such as grpc-api"));
  }
  std::string names;
  for (const EndpointSlice* slice : slices) {
    for (const SlicePort& candidate : slice->ports) {
      if (same_port(port, candidate)) return;
      if (names.size() < 100) names += (names.empty() ? "" : ", ") + shown(candidate.name);
    }
  }
  if (names.empty()) return;
  findings.push_back(about(Code::no_matching_slice_port, service, port.line,
                           "no EndpointSlice of the Service has a port named " + shown(port.name) +
                               " of the same protocol, so " + port_text(port) + " has no endpoints; theirs are " +
                               names,
                           "give the port the same name in the Service and in its EndpointSlices"));
}

// Until a DestinationRule says it: the annotation weir.dev/load-balancing, in Istio's names.
config::LoadBalancing load_balancing(const Service& service, std::vector<config::Finding>& findings) {
  const auto annotation = service.metadata.annotations.find("weir.dev/load-balancing");
  if (annotation == service.metadata.annotations.end() || annotation->second == "LEAST_REQUEST")
    return config::LoadBalancing::least_request;
  if (annotation->second == "ROUND_ROBIN") return config::LoadBalancing::round_robin;
  if (annotation->second == "RANDOM") return config::LoadBalancing::random;
  findings.push_back(
      about(Code::unknown_label_value, service, 0,
            "the annotation weir.dev/load-balancing is " + shown(annotation->second) + ", taken for LEAST_REQUEST",
            "use LEAST_REQUEST, ROUND_ROBIN or RANDOM"));
  return config::LoadBalancing::least_request;
}

// The clusters of one service, each of them the previous version's if it is equal.
class Clusters {
 public:
  explicit Clusters(const config::Service* previous) {
    if (!previous) return;
    for (const config::ServicePort& port : previous->ports)
      port.for_each_cluster([this](const auto& cluster) { before_.push_back(cluster); });
  }
  std::shared_ptr<const config::Cluster> shared(config::Cluster cluster) const {
    for (const auto& known : before_)
      if (*known == cluster) return known;
    return std::make_shared<const config::Cluster>(std::move(cluster));
  }

 private:
  std::vector<std::shared_ptr<const config::Cluster>> before_;
};

config::Cluster with_policy(config::Cluster cluster, const config::TrafficPolicy& policy) {
  cluster.load_balancing = policy.load_balancing.value_or(cluster.load_balancing);
  cluster.connection_pool = policy.connection_pool.value_or(config::ConnectionPool());
  cluster.outlier_detection = policy.outlier_detection;
  cluster.retry_budget = policy.retry_budget;
  cluster.tls_wanted = policy.tls.value_or(config::UpstreamTls::disable) != config::UpstreamTls::disable;
  return cluster;
}

void name(config::Cluster& cluster) {
  cluster.name = "outbound|" + std::to_string(cluster.port) + "|" + cluster.subset + "|" + cluster.host;
}

config::ClusterView make_view(const config::ServicePolicy& policy, const config::Cluster& plain,
                              const LabelsOf& labels_of, const Clusters& clusters) {
  const config::TrafficPolicy whole = policy.policy.of_port(plain.port);
  config::ClusterView view{policy.scope, clusters.shared(with_policy(plain, whole)), {}};
  for (const config::Subset& subset : policy.subsets) {
    config::Cluster part = with_policy(plain, subset.policy.of_port(plain.port, whole));
    part.subset = subset.name;
    name(part);
    std::erase_if(part.endpoints, [&](const Endpoint& endpoint) {
      const Labels* labels = labels_of(endpoint);
      return !labels || !config::includes(*labels, subset.labels);
    });
    view.subsets.emplace(subset.name, clusters.shared(std::move(part)));
  }
  return view;
}

}  // namespace

std::vector<Endpoint> choose_endpoints(const Service& service, const ServicePort& port, const Slices& slices,
                                       const ClusterSettings& settings) {
  AddressType family = primary_family(service, slices);
  bool local_only = service.internal_traffic_policy_local && !settings.node_name.empty();
  std::vector<Candidate> candidates;
  for (const EndpointSlice* slice : slices) {
    if (slice->address_type != family) continue;
    for (const SlicePort& slice_port : slice->ports) {
      if (!same_port(port, slice_port)) continue;
      for (const SliceEndpoint& endpoint : slice->endpoints) {
        if (local_only && endpoint.node_name != settings.node_name) continue;
        candidates.push_back({{{endpoint.addresses.front(), *slice_port.port}, endpoint.pod, endpoint.node_name},
                              endpoint.ready || service.publish_not_ready_addresses,
                              endpoint.serving && endpoint.terminating});
      }
    }
  }
  // The stage of the last resort is for the whole port, as in kube-proxy.
  bool any_ready = std::any_of(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.ready; });
  std::vector<Endpoint> chosen;
  for (Candidate& candidate : candidates) {
    if (any_ready ? candidate.ready : candidate.fallback) chosen.push_back(std::move(candidate.endpoint));
  }
  // While an endpoint moves between slices it is in both; one chosen copy is enough.
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const Endpoint& a, const Endpoint& b) { return a.address < b.address; });
  auto last = std::unique(chosen.begin(), chosen.end(),
                          [](const Endpoint& a, const Endpoint& b) { return a.address == b.address; });
  chosen.erase(last, chosen.end());
  return chosen;
}

std::shared_ptr<const config::Service> translate_service(const Service& service, const Slices& slices,
                                                         const ClusterSettings& settings, const IstioRules& rules,
                                                         const LabelsOf& labels_of,
                                                         const std::shared_ptr<const config::Service>& previous,
                                                         std::vector<config::Finding>& findings) {
  config::Service result;
  result.namespace_name = service.metadata.namespace_name;
  result.name = service.metadata.name;
  result.fqdn = result.name + "." + result.namespace_name + ".svc." + settings.cluster_domain;
  if (service.type != ServiceType::external_name) result.vips = service.cluster_ips;
  result.labels = service.metadata.labels;
  result.annotations = service.metadata.annotations;
  report_settings(service, slices, settings, findings);
  result.virtual_services = rules.routes_of(result.fqdn);
  const std::vector<config::ServicePolicy> policies = rules.policies_of(result.fqdn, result.namespace_name);
  const config::LoadBalancing balancing = load_balancing(service, findings);
  const Clusters clusters(previous.get());
  for (const ServicePort& port : service.ports) {
    config::ProtocolChoice choice = config::choose_protocol({port.protocol, port.app_protocol, port.name, port.port});
    config::ServicePort& entry = result.ports.emplace_back();
    entry.name = port.name;
    entry.port = port.port;
    entry.protocol = choice.protocol;
    entry.mode = config::default_mode(choice.protocol);
    entry.mode_reason = std::move(choice.reason);
    entry.divert_undeclared = settings.divert_undeclared;
    config::Cluster cluster;
    cluster.host = result.fqdn;
    cluster.port = port.port;
    name(cluster);
    cluster.load_balancing = balancing;
    cluster.endpoints = choose_endpoints(service, port, slices, settings);
    for (const config::ServicePolicy& policy : policies)
      entry.views.push_back(make_view(policy, cluster, labels_of, clusters));
    entry.cluster = clusters.shared(std::move(cluster));
    report_port(service, port, entry, slices, findings);
  }
  if (previous && *previous == result) return previous;
  return std::make_shared<const config::Service>(std::move(result));
}

}  // namespace weir::kubernetes
