#include <algorithm>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

using config::Endpoint;

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
  const bool hints = any_hints(slices);
  if (!service.traffic_distribution.empty() && !hints) {
    not_applied("trafficDistribution " + shown(service.traffic_distribution),
                "its EndpointSlices have no hints, so calls go to the endpoints of all zones");
  }
  if (hints && settings.zone.empty()) {
    findings.push_back(about(Code::unknown_own_zone, service, 0,
                             "its EndpointSlices have zone hints, but the agent does not know its zone: calls go to "
                             "the endpoints of all zones",
                             "label the Node with topology.kubernetes.io/zone, or set the agent's zone (--zone)"));
  }
  const auto exported = service.metadata.annotations.find("networking.istio.io/exportTo");
  if (exported != service.metadata.annotations.end() && exported->second != "*") {
    not_applied("networking.istio.io/exportTo", "every enrolled pod sees the Service");
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

// `dialled`: the Service has addresses at which it can be.
void report_port(const Service& service, const ServicePort& port, const config::ServicePort& result, bool dialled,
                 const Slices& slices, std::vector<config::Finding>& findings) {
  if (result.protocol == config::Protocol::not_tcp || !dialled) return;
  if (result.protocol == config::Protocol::unknown) {
    std::string meanwhile = result.mode == config::Mode::detect
                                ? "it is detected from the first bytes of each connection"
                                : "its connections are not diverted";
    findings.push_back(about(Code::undeclared_protocol, service, port.line,
                             "the protocol of " + port_text(port) + " is not declared: " + meanwhile,
                             "declare it: appProtocol: grpc, or a port name such as grpc-api"));
  }
  std::string names;
  for (const auto& slice : slices) {
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

// VirtualServices' http rules are for HTTP/2 calls. Of a declared TCP port that is worth a word only where no other
// port can be meant.
void report_rules(const Service& service, const config::Service& result, std::vector<config::Finding>& findings) {
  if (result.virtual_services.empty()) return;
  const bool may_be_meant = std::any_of(result.ports.begin(), result.ports.end(), [](const auto& port) {
    return port.mode == config::Mode::l7 || port.mode == config::Mode::detect;
  });
  const config::VirtualService& rules = *result.virtual_services.front();
  for (size_t i = 0; i < result.ports.size(); ++i) {
    const config::ServicePort& port = result.ports[i];
    const bool by_bytes = port.mode == config::Mode::detect;
    if (port.mode == config::Mode::l7 || port.protocol == config::Protocol::not_tcp || (!by_bytes && may_be_meant))
      continue;
    const std::string text = port_text(service.ports[i]);
    findings.push_back(
        about(Code::rules_need_http2, service, service.ports[i].line,
              "the rules of VirtualService " + rules.namespace_name + "/" + rules.name +
                  (by_bytes ? " apply to the HTTP/2 connections of " + text + " only: others, HTTP/1.1 too, pass as TCP"
                            : " do not apply to " + text + ": its connections are not looked into") +
                  " (" + port.mode_reason + ")",
              "if it speaks gRPC declare it: appProtocol: grpc, or a port name such as grpc-api"));
  }
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

// The annotation weir.dev/balance-headless.
bool balances_headless(const Service& service, std::vector<config::Finding>& findings) {
  const auto annotation = service.metadata.annotations.find("weir.dev/balance-headless");
  if (annotation == service.metadata.annotations.end() || annotation->second == "false") return false;
  const bool asked = annotation->second == "true";
  if (asked && service.headless) return true;
  findings.push_back(about(Code::unknown_label_value, service, 0,
                           "the annotation weir.dev/balance-headless is " + shown(annotation->second) +
                               (asked ? ", but the Service is not headless: it means nothing" : ", taken for false"),
                           asked ? "remove it" : "use \"true\" or \"false\""));
  return false;
}

// The clusters of one service: equal ones are one object, the previous version's if it has an equal one.
class Clusters {
 public:
  explicit Clusters(const config::Service* previous) {
    if (!previous) return;
    for (const config::ServicePort& port : previous->ports)
      port.for_each_cluster([this](const auto& cluster) { known_.push_back(cluster); });
  }
  std::shared_ptr<const config::Cluster> shared(config::Cluster cluster) {
    for (const auto& known : known_)
      if (*known == cluster) return known;
    return known_.emplace_back(std::make_shared<const config::Cluster>(std::move(cluster)));
  }

 private:
  std::vector<std::shared_ptr<const config::Cluster>> known_;
};

config::Cluster with_policy(config::Cluster cluster, const config::TrafficPolicy& policy) {
  if (policy.load_balancing) {
    cluster.load_balancing = *policy.load_balancing;
    cluster.session_affinity.reset();  // what is asked for by name goes before the Service's own
  }
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
                              const LabelsOf& labels_of, Clusters& clusters) {
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

std::string fqdn_of(const Service& service, const ClusterSettings& settings) {
  return service.metadata.name + "." + service.metadata.namespace_name + ".svc." + settings.cluster_domain;
}

LabelsOf labels_in(const ObjectStore& store, const Service& service, const config::PodsByAddress& pods) {
  return [&](const Endpoint& endpoint) -> const Labels* {
    if (!endpoint.pod.empty()) {
      const auto pod = store.find({Kind::pod, service.metadata.namespace_name, endpoint.pod});
      if (pod) return &metadata_of(*pod).labels;
    }
    const auto at = pods.find(endpoint.address.ip);
    return at == pods.end() ? nullptr : &at->second->labels;
  };
}

std::shared_ptr<const config::Service> translate_service(const Service& service, const Slices& slices,
                                                         const ClusterSettings& settings, const IstioRules& rules,
                                                         const LabelsOf& labels_of, const config::PodsByAddress& pods,
                                                         const std::shared_ptr<const config::Service>& previous,
                                                         std::vector<config::Finding>& findings) {
  config::Service result;
  result.namespace_name = service.metadata.namespace_name;
  result.name = service.metadata.name;
  result.fqdn = fqdn_of(service, settings);
  if (service.type != ServiceType::external_name) result.vips = service.cluster_ips;
  result.by_endpoint = balances_headless(service, findings);
  result.labels = service.metadata.labels;
  report_settings(service, slices, settings, findings);
  report_detect_annotation(service, findings);
  result.virtual_services = rules.routes_of(result.fqdn);
  const std::vector<config::ServicePolicy> policies = rules.policies_of(result.fqdn, result.namespace_name);
  const config::LoadBalancing balancing = load_balancing(service, findings);
  Clusters clusters(previous.get());
  for (const ServicePort& port : service.ports) {
    config::ProtocolChoice choice = config::choose_protocol({port.protocol, port.app_protocol, port.name, port.port});
    config::ServicePort& entry = result.ports.emplace_back();
    entry.name = port.name;
    entry.port = port.port;
    entry.protocol = choice.protocol;
    ModeChoice mode = choose_mode(service, port, choice.protocol, policies, settings);
    entry.mode = mode.mode;
    // Of these kube-proxy knows nothing, or has endpoints of its own in mind.
    entry.shapes_tcp = mode.shapes_tcp || service.session_affinity || balancing != config::LoadBalancing::least_request;
    entry.mode_reason = std::move(choice.reason);
    if (!mode.reason.empty()) entry.mode_reason += "; " + mode.reason;
    config::Cluster cluster;
    cluster.host = result.fqdn;
    cluster.port = port.port;
    name(cluster);
    cluster.load_balancing = balancing;
    cluster.session_affinity = service.session_affinity;
    cluster.endpoints = choose_endpoints(service, port, slices, settings);
    for (const config::ServicePolicy& policy : policies)
      entry.views.push_back(make_view(policy, cluster, labels_of, clusters));
    entry.cluster = clusters.shared(std::move(cluster));
    report_port(service, port, entry, has_vip(service) || result.by_endpoint, slices, findings);
  }
  if (result.by_endpoint) add_endpoint_addresses(service, slices, pods, result, findings);
  report_rules(service, result, findings);
  if (previous && *previous == result) return previous;
  return std::make_shared<const config::Service>(std::move(result));
}

}  // namespace weir::kubernetes
