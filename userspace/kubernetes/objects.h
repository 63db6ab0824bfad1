// The Kubernetes objects that weir reads, with only the fields that matter to
// it, decoded and checked. Values: comparable, copied freely, free of JSON.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "base/address.h"
#include "config/routes.h"
#include "config/snapshot.h"

namespace weir::kubernetes {

using config::Labels;

// Where an object was read from. The API server's objects have neither file nor line.
struct Origin {
  std::string file;
  int line = 0;
  bool operator==(const Origin&) const = default;
};

struct Metadata {
  std::string namespace_name;  // empty for a Namespace or a Node
  std::string name;
  std::string uid;
  Labels labels;
  Labels annotations;     // that somebody here reads
  std::string created;    // creationTimestamp (RFC 3339, so text order is age); files have none
  bool deleting = false;  // deletionTimestamp is set
  Origin origin;
  bool operator==(const Metadata&) const = default;
};

struct ServicePort {
  std::string name;
  uint16_t port = 0;
  std::string protocol = "TCP";
  std::optional<std::string> app_protocol;
  std::string target_port;  // number or name, for people; endpoints carry the real one
  int line = 0;
  bool operator==(const ServicePort&) const = default;
};

enum class ServiceType : uint8_t { cluster_ip, node_port, load_balancer, external_name };
enum class AddressFamily : uint8_t { ipv4, ipv6 };

struct Service {
  Metadata metadata;
  ServiceType type = ServiceType::cluster_ip;
  bool headless = false;                     // clusterIP: None
  std::vector<base::IpAddress> cluster_ips;  // empty when headless or not assigned
  std::vector<AddressFamily> ip_families;    // as declared, may be empty
  std::vector<ServicePort> ports;
  Labels selector;
  bool publish_not_ready_addresses = false;
  bool internal_traffic_policy_local = false;
  std::optional<base::Duration> session_affinity;  // ClientIP, with its timeout
  std::string traffic_distribution;
  bool operator==(const Service&) const = default;
};

struct SliceEndpoint {
  std::vector<base::IpAddress> addresses;  // consumers use the first only, as the API says
  bool ready = true;
  bool serving = true;
  bool terminating = false;
  std::string pod;  // targetRef of kind Pod in the slice's namespace
  std::string node_name;
  std::string zone;
  std::vector<std::string> zone_hints, node_hints;  // hints.forZones, .forNodes: names
  bool operator==(const SliceEndpoint&) const = default;
};

struct SlicePort {
  std::string name;
  std::optional<uint16_t> port;
  std::string protocol = "TCP";
  std::optional<std::string> app_protocol;
  bool operator==(const SlicePort&) const = default;
};

enum class AddressType : uint8_t { ipv4, ipv6, fqdn };

struct EndpointSlice {
  Metadata metadata;
  std::string service;  // label kubernetes.io/service-name, may be empty
  AddressType address_type = AddressType::ipv4;
  std::vector<SliceEndpoint> endpoints;  // empty for FQDN, which nothing resolves
  std::vector<SlicePort> ports;
  bool operator==(const EndpointSlice&) const = default;
};

enum class PodPhase : uint8_t { unknown, pending, running, succeeded, failed };

struct Pod {
  Metadata metadata;
  std::string node_name;
  std::string service_account;
  std::string runtime_class;
  std::vector<std::string> containers;  // names, init containers included
  bool host_network = false;
  std::vector<base::IpAddress> ips;
  PodPhase phase = PodPhase::unknown;
  bool ready = false;  // condition Ready
  bool operator==(const Pod&) const = default;
};

struct Namespace {
  Metadata metadata;
  bool operator==(const Namespace&) const = default;
};

// Of nodes only the labels matter.
struct Node {
  Metadata metadata;
  bool operator==(const Node&) const = default;
};

// Where a route names a destination, as written; lines are 0 where unknown.
struct DestinationPlace {
  std::string host, subset;
  int host_line = 0, subset_line = 0;
  bool operator==(const DestinationPlace&) const = default;
};

// Of a DaemonSet only matters that it is there.
struct DaemonSet {
  Metadata metadata;
  bool operator==(const DaemonSet&) const = default;
};

// networking.istio.io. Hosts are as written: translation completes them.
struct VirtualService {
  Metadata metadata;
  std::vector<std::string> hosts;
  std::vector<std::string> gateways;   // empty: mesh
  std::vector<std::string> export_to;  // empty: all namespaces
  std::vector<config::RouteRule> http;
  std::vector<DestinationPlace> places;                        // of all destinations in `http`
  std::optional<std::vector<std::string>> idempotent_methods;  // paths (annotation weir.dev/idempotent-methods)
  bool operator==(const VirtualService&) const = default;
};

struct DestinationRule {
  Metadata metadata;
  std::string host;
  std::vector<std::string> export_to;  // empty: all namespaces
  Labels workload_selector;            // of client pods; empty: all
  config::PolicyWithPorts policy;
  std::vector<config::Subset> subsets;
  bool operator==(const DestinationRule&) const = default;
};

// The mesh's own configuration (istio.mesh.v1alpha1 MeshConfig): the ConfigMap istio in istio-system.
struct MeshConfig {
  Metadata metadata;
  std::string root_namespace = "istio-system";
  config::RetryPolicy default_retries = config::default_retry_policy();
  std::vector<std::string> virtual_service_export_to, destination_rule_export_to;  // of those without exportTo
  bool operator==(const MeshConfig&) const = default;
};

using Object =
    std::variant<Service, EndpointSlice, Pod, Namespace, Node, DaemonSet, VirtualService, DestinationRule, MeshConfig>;

// Object's alternatives in their order, and then kinds that become no Object: of those only findings are known.
enum class Kind : uint8_t {
  service,
  endpoint_slice,
  pod,
  namespace_,
  node,
  daemon_set,
  virtual_service,
  destination_rule,
  mesh_config,
  gateway,
  authorization_policy,
  request_authentication,
  peer_authentication
};
inline constexpr size_t kKindCount = static_cast<size_t>(Kind::peer_authentication) + 1;
const char* to_string(Kind kind);

template <class T>
constexpr Kind kind_of() {
  if constexpr (std::is_same_v<T, Service>) return Kind::service;
  if constexpr (std::is_same_v<T, EndpointSlice>) return Kind::endpoint_slice;
  if constexpr (std::is_same_v<T, Pod>) return Kind::pod;
  if constexpr (std::is_same_v<T, Namespace>) return Kind::namespace_;
  if constexpr (std::is_same_v<T, Node>) return Kind::node;
  if constexpr (std::is_same_v<T, DaemonSet>) return Kind::daemon_set;
  if constexpr (std::is_same_v<T, VirtualService>) return Kind::virtual_service;
  if constexpr (std::is_same_v<T, DestinationRule>) return Kind::destination_rule;
  if constexpr (std::is_same_v<T, MeshConfig>) return Kind::mesh_config;
}

struct ObjectKey {
  Kind kind = Kind::service;
  std::string namespace_name;
  std::string name;
  auto operator<=>(const ObjectKey&) const = default;
  // "Service default/grpc-service", "Namespace default"
  std::string to_string() const;
};

const Metadata& metadata_of(const Object& object);
// The same object as the type it is; it must be one.
template <class T>
std::shared_ptr<const T> shared_as(const std::shared_ptr<const Object>& object) {
  return {object, &std::get<T>(*object)};
}
ObjectKey key_of(const Object& object);

}  // namespace weir::kubernetes
