// Snapshot: the configuration that workers run with. Immutable once built and
// shared between threads; what did not change between two Snapshots is the same
// object in both, so that a worker can tell by comparing pointers.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "config/finding.h"
#include "config/labels.h"
#include "config/protocol.h"
#include "config/routes.h"
#include "config/traffic_policy.h"

namespace weir::config {

// One backend of a cluster: a pod's (or anything's) IP and port.
struct Endpoint {
  base::SocketAddress address;
  std::string pod;        // "name" of the pod behind it where known, for logs and metrics
  std::string node_name;  // where known
  bool operator==(const Endpoint&) const = default;
};

// The backends of one service port, or of one subset of it, and how to use them.
struct Cluster {
  std::string name;    // Istio's form: "outbound|50051|subset|grpc-service.default.svc.cluster.local"
  std::string host;    // of these three the name is made
  std::string subset;  // empty: all endpoints
  uint16_t port = 0;
  std::vector<Endpoint> endpoints;  // those that may be picked now, sorted by address, no duplicates
  LoadBalancing load_balancing = LoadBalancing::least_request;
  std::optional<base::Duration> session_affinity;  // a pod stays with its endpoint while it calls this often
  ConnectionPool connection_pool;
  std::optional<OutlierDetection> outlier_detection;
  std::optional<RetryBudget> retry_budget;
  bool tls_wanted = false;  // which weir does not have: every call fails (UF)
  bool operator==(const Cluster&) const = default;
};

// What a DestinationRule makes of a port, for the clients it is for.
struct ClusterView {
  PolicyScope scope;
  std::shared_ptr<const Cluster> cluster;
  std::map<std::string, std::shared_ptr<const Cluster>, std::less<>> subsets;
  bool operator==(const ClusterView&) const = default;
};

struct ServicePort {
  std::string name;
  uint16_t port = 0;
  Protocol protocol = Protocol::unknown;
  Mode mode = Mode::none;                  // declared; see diverted_mode()
  std::string mode_reason;                 // why, for people
  std::shared_ptr<const Cluster> cluster;  // for clients that no view is for
  std::vector<ClusterView> views;          // in the order in which they are looked up
  // Of endpoints: where it is dialled besides (Service::by_endpoint). Not all of the cluster's: see
  // kubernetes/endpoint_addresses.cpp.
  std::vector<base::SocketAddress> endpoint_addresses = {};
  bool shapes_tcp = false;  // some view, or the Service itself, means something to connections of any protocol
  // What goes into the BPF map: `mode`, but none for detect and tcp ports without an
  // endpoint, so that connect() fails as it does without weir.
  Mode diverted_mode() const;
  // Whether connections that are not HTTP/2 may pass by the agent once it is known that they are not: nothing is
  // declared, and nobody says how they are to be treated. What is said of HTTP only is not lost to them.
  bool learns() const { return mode == Mode::detect && protocol == Protocol::unknown && !shapes_tcp; }
  // Calls f for the cluster of every view and subset, its own first.
  template <class F>
  void for_each_cluster(F&& f) const {
    if (cluster) f(cluster);
    for (const ClusterView& view : views) {
      f(view.cluster);
      for (const auto& [name_of_subset, part] : view.subsets) f(part);
    }
  }
  // What clients of that namespace and with those labels use; null if they have no such subset ("" is the whole).
  const std::shared_ptr<const Cluster>* cluster_for(std::string_view subset, std::string_view client_namespace,
                                                    const Labels& client_labels) const;
  // Compares clusters by pointer: equal clusters of two Snapshots are one object.
  bool operator==(const ServicePort&) const = default;
};

struct Service {
  std::string namespace_name;
  std::string name;
  std::string fqdn;                   // "grpc-service.default.svc.cluster.local"
  std::vector<base::IpAddress> vips;  // ClusterIPs; empty for headless and ExternalName services
  bool by_endpoint = false;           // headless, and dialled at its endpoints' own addresses
  std::vector<ServicePort> ports;
  Labels labels;
  std::vector<std::shared_ptr<const VirtualService>> virtual_services;  // that name it, the winning one first
  const ServicePort* find_port(uint16_t port) const;                    // TCP ports only
  bool has_subset(std::string_view name) const;                         // for any client
  // Call f(address, place in `ports`) for each address and TCP port at which the Service can be dialled: its own, and
  // those of its endpoints.
  template <class F>
  void for_each_vip(F&& f) const {
    for (uint32_t i = 0; i < ports.size(); ++i) {
      if (ports[i].protocol == Protocol::not_tcp) continue;
      for (const base::IpAddress& vip : vips) f(base::SocketAddress{vip, ports[i].port}, i);
    }
  }
  template <class F>
  void for_each_endpoint_address(F&& f) const {
    for (uint32_t i = 0; i < ports.size(); ++i)
      for (const base::SocketAddress& address : ports[i].endpoint_addresses) f(address, i);
  }
  bool operator==(const Service&) const = default;
};

// What a pod on this node asked for by label, before it is known whether it can be had.
enum class Dataplane : uint8_t { disabled, enabled, observe };

struct Pod {
  std::string namespace_name;
  std::string name;
  std::string uid;
  std::string node_name;
  std::string service_account;
  std::vector<base::IpAddress> ips;
  Labels labels;
  Labels annotations;
  Dataplane dataplane = Dataplane::disabled;  // pod's label, else its namespace's (weir.dev/dataplane)
  // Why an enabled pod must not be enrolled ("has an istio-proxy container"); empty if it may.
  std::string refusal;
  std::vector<uint16_t> excluded_ports;  // weir.dev/exclude-outbound-ports and Istio's
  bool fail_closed = false;              // weir.dev/fail-policy: closed (pod, else namespace)
  bool redirect = true;                  // not weir.dev/redirect: off (pod, else namespace)
  std::string qualified_name() const { return namespace_name + "/" + name; }
  bool operator==(const Pod&) const = default;
};

// What is found under which name and address. Services are told by their place in Snapshot::services, so that
// Snapshots whose Services have the same names and addresses share one Directory, whatever changed otherwise.
struct Directory {
  struct Place {
    uint32_t service = 0;  // in Snapshot::services
    uint32_t port = 0;     // in its ports
    bool operator==(const Place&) const = default;
  };
  using Places = std::unordered_map<base::SocketAddress, Place>;
  Places by_address;                                // VIPs
  std::unordered_map<std::string, size_t> by_host;  // fqdn
};

// hostNetwork pods excepted.
using PodsByAddress = std::unordered_map<base::IpAddress, std::shared_ptr<const Pod>>;

struct Snapshot {
  uint64_t revision = 0;                                 // grows by one with each build
  std::vector<std::shared_ptr<const Service>> services;  // sorted by namespace, name
  std::vector<std::shared_ptr<const Pod>> pods;          // sorted by namespace, name
  std::shared_ptr<const Directory> directory = std::make_shared<const Directory>();
  // Endpoints' own addresses that are dialled as a Service, none of them a VIP: a few, which come and go with pods.
  std::shared_ptr<const Directory::Places> by_endpoint = std::make_shared<const Directory::Places>();
  std::shared_ptr<const PodsByAddress> pods_by_address = std::make_shared<const PodsByAddress>();
  // The mesh's: for routes without retries of their own, and Services that no VirtualService governs.
  RetryPolicy default_retries = default_retry_policy();
  // Sorted by file and line. Those of the last complete build: see kubernetes::Translator.
  std::shared_ptr<const std::vector<Finding>> findings = std::make_shared<const std::vector<Finding>>();

  // What is dialled at an address; both null: nothing.
  struct Dialled {
    const std::shared_ptr<const Service>* service = nullptr;
    const ServicePort* port = nullptr;
  };
  Dialled at(const base::SocketAddress& address) const;
  // Null if there is none.
  const std::shared_ptr<const Service>* service_named(const std::string& fqdn) const;
};

}  // namespace weir::config
