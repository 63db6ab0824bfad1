#include <set>

#include "kubernetes/decode_kinds.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr int64_t kSessionAffinitySeconds = 10800;  // the API's default

ServicePort decode_port(ObjectReader& reader, const json& fields) {
  ServicePort port;
  port.name = reader.string(fields, "name");
  port.protocol = reader.string_of(fields, "protocol", {"TCP", "UDP", "SCTP"}, "TCP");
  port.app_protocol = reader.optional_string(fields, "appProtocol");
  if (auto number = reader.port(fields, "port")) {
    port.port = *number;
  } else if (!fields.contains("port")) {
    reader.reject(Code::missing_field, fields, "port", "is missing", "add the port's number");
  }
  auto target = fields.find("targetPort");
  if (target != fields.end() && target->is_string()) {
    port.target_port = target->get<std::string>();
  } else if (auto number = reader.port(fields, "targetPort")) {
    port.target_port = std::to_string(*number);
  }
  return port;
}

void decode_ports(ObjectReader& reader, const json& spec, Service& service) {
  std::vector<const json*> ports = reader.objects(spec, "ports");
  std::set<std::string> names;
  std::set<std::pair<uint16_t, std::string>> numbers;
  uint64_t path = LineTable::child(LineTable::child(reader.path(), "spec"), "ports");
  for (const json* fields : ports) {
    ServicePort port = decode_port(reader, *fields);
    port.line = reader.line_at(LineTable::child(path, service.ports.size()));
    if (ports.size() > 1 && port.name.empty()) {
      reader.reject(Code::missing_field, *fields, "name", "is missing; a Service with several ports must name them");
    } else if (!names.insert(port.name).second) {
      reader.reject(Code::bad_value, *fields, "name", "is the name of another port too: " + shown(port.name));
    }
    if (port.port != 0 && !numbers.emplace(port.port, port.protocol).second) {
      reader.reject(Code::bad_value, *fields, "port", "is the number of another port too");
    }
    service.ports.push_back(std::move(port));
  }
  bool may_have_none = service.headless || service.type == ServiceType::external_name;
  if (ports.empty() && !may_have_none && !reader.rejected()) {
    reader.reject(Code::missing_field, spec, "ports", "is missing or empty", "add at least one port");
  }
}

void decode_cluster_ips(ObjectReader& reader, const json& spec, Service& service) {
  std::vector<std::string> texts = reader.strings(spec, "clusterIPs");
  std::string first = reader.string(spec, "clusterIP");
  if (texts.empty() && !first.empty()) {
    texts.push_back(first);
  } else if (!texts.empty() && !first.empty() && texts.front() != first) {
    reader.reject(Code::bad_value, spec, "clusterIPs", "must begin with clusterIP, " + shown(first));
  }
  const char* field = spec.contains("clusterIPs") ? "clusterIPs" : "clusterIP";
  for (const std::string& text : texts) {
    if (text == "None") {
      service.headless = true;
    } else if (auto ip = reader.address(spec, field, text)) {
      service.cluster_ips.push_back(*ip);
    }
  }
  if (service.headless && !service.cluster_ips.empty()) {
    reader.reject(Code::bad_value, spec, field, "has None beside an address");
  }
}

std::optional<bool> condition(ObjectReader& reader, const json& endpoint, const char* name) {
  return reader.boolean(reader.object(endpoint, "conditions"), name);
}

SliceEndpoint decode_endpoint(ObjectReader& reader, const json& fields, const EndpointSlice& slice) {
  SliceEndpoint endpoint;
  endpoint.ready = condition(reader, fields, "ready").value_or(true);
  endpoint.serving = condition(reader, fields, "serving").value_or(endpoint.ready);
  endpoint.terminating = condition(reader, fields, "terminating").value_or(false);
  endpoint.node_name = reader.string(fields, "nodeName");
  endpoint.zone = reader.string(fields, "zone");
  const json& target = reader.object(fields, "targetRef");
  const std::string home = reader.string(target, "namespace");
  if (reader.string(target, "kind") == "Pod" && (home.empty() || home == slice.metadata.namespace_name))
    endpoint.pod = reader.string(target, "name");
  const json& hints = reader.object(fields, "hints");
  for (const json* zone : reader.objects(hints, "forZones"))
    endpoint.zone_hints.push_back(reader.string(*zone, "name"));
  for (const json* node : reader.objects(hints, "forNodes"))
    endpoint.node_hints.push_back(reader.string(*node, "name"));
  std::vector<std::string> addresses = reader.strings(fields, "addresses");
  if (addresses.empty()) reader.reject(Code::missing_field, fields, "addresses", "is missing or empty");
  for (const std::string& text : addresses) {
    auto ip = reader.address(fields, "addresses", text);
    if (!ip) continue;
    if (ip->is_v4() != (slice.address_type == AddressType::ipv4)) {
      reader.reject(Code::bad_address, fields, "addresses", "has " + shown(text) + ", not of the slice's addressType");
    }
    endpoint.addresses.push_back(*ip);
  }
  return endpoint;
}

}  // namespace

void decode_into(ObjectReader& reader, Service& service) {
  const json& spec = reader.object(reader.root(), "spec");
  if (!reader.root().contains("spec")) {
    reader.reject(Code::missing_field, reader.root(), "spec", "is missing");
    return;
  }
  std::string type =
      reader.string_of(spec, "type", {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}, "ClusterIP");
  service.type = type == "ExternalName"   ? ServiceType::external_name
                 : type == "LoadBalancer" ? ServiceType::load_balancer
                 : type == "NodePort"     ? ServiceType::node_port
                                          : ServiceType::cluster_ip;
  decode_cluster_ips(reader, spec, service);
  for (const std::string& family : reader.strings(spec, "ipFamilies")) {
    if (family != "IPv4" && family != "IPv6") {
      reader.reject(Code::bad_value, spec, "ipFamilies", "has " + shown(family), "use IPv4 or IPv6");
    }
    service.ip_families.push_back(family == "IPv6" ? AddressFamily::ipv6 : AddressFamily::ipv4);
  }
  decode_ports(reader, spec, service);
  service.selector = reader.string_map(spec, "selector");
  service.publish_not_ready_addresses = reader.boolean(spec, "publishNotReadyAddresses").value_or(false);
  service.internal_traffic_policy_local =
      reader.string_of(spec, "internalTrafficPolicy", {"Cluster", "Local"}, "Cluster") == "Local";
  if (reader.string_of(spec, "sessionAffinity", {"None", "ClientIP"}, "None") == "ClientIP") {
    const json& client_ip = reader.object(reader.object(spec, "sessionAffinityConfig"), "clientIP");
    service.session_affinity =
        std::chrono::seconds(reader.integer(client_ip, "timeoutSeconds", 1, 86400).value_or(kSessionAffinitySeconds));
  }
  service.traffic_distribution = reader.string(spec, "trafficDistribution");
}

void decode_into(ObjectReader& reader, EndpointSlice& slice) {
  const json& root = reader.root();
  auto service = slice.metadata.labels.find("kubernetes.io/service-name");
  if (service != slice.metadata.labels.end()) slice.service = service->second;
  std::string type = reader.string_of(root, "addressType", {"IPv4", "IPv6", "FQDN"}, "");
  if (type.empty()) {
    if (!reader.rejected()) {
      reader.reject(Code::missing_field, root, "addressType", "is missing", "write addressType: IPv4");
    }
    return;
  }
  slice.address_type = type == "IPv4" ? AddressType::ipv4 : type == "IPv6" ? AddressType::ipv6 : AddressType::fqdn;
  if (slice.address_type != AddressType::fqdn) {
    for (const json* fields : reader.objects(root, "endpoints")) {
      slice.endpoints.push_back(decode_endpoint(reader, *fields, slice));
    }
  }
  for (const json* fields : reader.objects(root, "ports")) {
    slice.ports.push_back({reader.string(*fields, "name"), reader.port(*fields, "port"),
                           reader.string_of(*fields, "protocol", {"TCP", "UDP", "SCTP"}, "TCP"),
                           reader.optional_string(*fields, "appProtocol")});
  }
}

}  // namespace weir::kubernetes
