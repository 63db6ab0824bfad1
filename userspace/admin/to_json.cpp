#include "admin/to_json.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "kubernetes/findings.h"
#include "weir/admin_api.h"

namespace weir::admin {
namespace {

using nlohmann::json;
namespace key = admin_api::key;

const char* name_of(config::LoadBalancing policy) {
  switch (policy) {
    case config::LoadBalancing::round_robin:
      return "ROUND_ROBIN";
    case config::LoadBalancing::random:
      return "RANDOM";
    case config::LoadBalancing::least_request:
      break;
  }
  return "LEAST_REQUEST";
}

const char* name_of(config::Dataplane dataplane) {
  switch (dataplane) {
    case config::Dataplane::enabled:
      return "enabled";
    case config::Dataplane::observe:
      return "observe";
    case config::Dataplane::disabled:
      break;
  }
  return "disabled";
}

const char* name_of(interception::PodState state) {
  switch (state) {
    case interception::PodState::waiting:
      return "waiting";
    case interception::PodState::enrolled:
      return "enrolled";
    case interception::PodState::refused:
      return "refused";
    case interception::PodState::failed:
      return "failed";
    case interception::PodState::disabled:
      break;
  }
  return "disabled";
}

template <class Addresses>
json texts_of(const Addresses& addresses) {
  json out = json::array();
  for (const auto& address : addresses) out.push_back(address.to_string());
  return out;
}

json labels_of(const config::Labels& labels) {
  json out = json::object();
  for (const auto& [name, value] : labels) out[name] = value;
  return out;
}

json cluster_of(const config::Cluster* cluster) {
  if (!cluster) return nullptr;
  json endpoints = json::array();
  for (const config::Endpoint& endpoint : cluster->endpoints) {
    endpoints.push_back(
        {{key::address, endpoint.address.to_string()}, {key::pod, endpoint.pod}, {key::node, endpoint.node_name}});
  }
  const auto timeout = std::chrono::duration_cast<std::chrono::milliseconds>(cluster->connection_pool.connect_timeout);
  return {{key::name, cluster->name},
          {key::load_balancing, name_of(cluster->load_balancing)},
          {key::connect_timeout_ms, timeout.count()},
          {key::endpoints, std::move(endpoints)}};
}

json service_of(const config::Service& service) {
  json ports = json::array();
  for (const config::ServicePort& port : service.ports) {
    ports.push_back({{key::name, port.name},
                     {key::port, port.port},
                     {key::protocol, to_string(port.protocol)},
                     {key::mode, to_string(port.mode)},
                     {key::diverted_mode, to_string(port.diverted_mode())},
                     {key::reason, port.mode_reason},
                     {key::cluster, cluster_of(port.cluster.get())}});
    if (service.by_endpoint) ports.back()[key::endpoint_addresses] = texts_of(port.endpoint_addresses);
  }
  return {{key::namespace_name, service.namespace_name},
          {key::name, service.name},
          {key::fqdn, service.fqdn},
          {key::vips, texts_of(service.vips)},
          {key::by_endpoint, service.by_endpoint},
          {key::labels, labels_of(service.labels)},
          {key::ports, std::move(ports)}};
}

json pod_of(const config::Pod& pod) {
  return {{key::namespace_name, pod.namespace_name},
          {key::name, pod.name},
          {key::uid, pod.uid},
          {key::node, pod.node_name},
          {key::service_account, pod.service_account},
          {key::ips, texts_of(pod.ips)},
          {key::labels, labels_of(pod.labels)},
          {key::dataplane, name_of(pod.dataplane)},
          {key::refusal, pod.refusal},
          {key::excluded_ports, pod.excluded_ports},
          {key::fail_closed, pod.fail_closed},
          {key::redirect, pod.redirect}};
}

// "Service default/greeter" is about "default/greeter".
bool is_about(const config::Finding& finding, std::string_view qualified_name) {
  const std::string_view object = finding.object;
  return object.size() > qualified_name.size() &&
         object.substr(object.size() - qualified_name.size()) == qualified_name &&
         object[object.size() - qualified_name.size() - 1] == ' ';
}

json config_of(const AgentStats& stats, const config::Snapshot& snapshot, base::Instant now) {
  json findings = {{"error", 0}, {"warning", 0}, {"info", 0}};
  for (const config::Finding& finding : *snapshot.findings) {
    json& count = findings[to_string(finding.severity)];
    count = count.get<int>() + 1;
  }
  return {{key::revision, snapshot.revision},
          {key::age_seconds, std::chrono::duration<double>(now - stats.configured).count()},
          {key::services, snapshot.services.size()},
          {key::pods, snapshot.pods.size()},
          {key::findings, std::move(findings)}};
}

json bpf_of(const base::Result<BpfCounters>& counters) {
  if (!counters) return {{key::error, counters.error().message}};
  json out = json::object();
  for (size_t i = 0; i < admin_api::kBpfStats.size(); ++i) out[admin_api::kBpfStats[i].name] = counters.value()[i];
  return out;
}

}  // namespace

json to_json(const config::Snapshot& snapshot, std::string_view only) {
  json services = json::array(), pods = json::array(), findings = json::array();
  for (const auto& service : snapshot.services) {
    if (only.empty() || service->namespace_name + "/" + service->name == only) services.push_back(service_of(*service));
  }
  if (only.empty()) {
    for (const auto& pod : snapshot.pods) pods.push_back(pod_of(*pod));
  }
  for (const config::Finding& finding : *snapshot.findings) {
    if (only.empty() || is_about(finding, only)) findings.push_back(kubernetes::to_json(finding));
  }
  return {{key::revision, snapshot.revision},
          {key::services, std::move(services)},
          {key::pods, std::move(pods)},
          {key::findings, std::move(findings)}};
}

void add_misdeclared(json& dump, const std::map<telemetry::ServicePortLabels, uint64_t>& connections) {
  if (connections.empty()) return;
  for (json& service : dump[key::services]) {
    for (json& port : service[key::ports]) {
      const auto found =
          connections.find({service[key::namespace_name].get<std::string>(), service[key::name].get<std::string>(),
                            std::to_string(port[key::port].get<int>())});
      if (found != connections.end()) port[key::misdeclared_connections] = found->second;
    }
  }
}

json to_json(const std::vector<interception::PodStatus>& pods) {
  json out = json::array();
  for (const interception::PodStatus& status : pods) {
    if (!status.pod) continue;
    const auto latency = std::chrono::duration<double, std::milli>(status.latency);
    out.push_back({{key::namespace_name, status.pod->namespace_name},
                   {key::name, status.pod->name},
                   {key::uid, status.pod->uid},
                   {key::ips, texts_of(status.pod->ips)},
                   {key::dataplane, name_of(status.pod->dataplane)},
                   {key::state, name_of(status.state)},
                   {key::reason, status.reason},
                   {key::netns_cookie, status.netns_cookie},
                   {key::listener_port, status.port},
                   {key::worker, status.worker},
                   {key::enrolment_ms, latency.count()},
                   {key::unmanaged_connections, status.unmanaged_connections}});
  }
  return {{key::pods, std::move(out)}};
}

json to_json(interception::UnmanagedList list) {
  std::stable_sort(list.connections.begin(), list.connections.end(), [](const auto& a, const auto& b) {
    return std::tie(a.socket.half_closed, a.socket.idle) > std::tie(b.socket.half_closed, b.socket.idle);
  });
  json connections = json::array();
  for (const interception::UnmanagedConnection& connection : list.connections) {
    const interception::TcpSocket& socket = connection.socket;
    const config::Service& service = *connection.target.service;
    connections.push_back({{key::namespace_name, connection.pod->namespace_name},
                           {key::pod, connection.pod->name},
                           {key::uid, connection.pod->uid},
                           {key::service, service.namespace_name + "/" + service.name},
                           {key::port, connection.target.port->port},
                           {key::mode, to_string(connection.target.port->mode)},
                           {key::source, socket.id.local.to_string()},
                           {key::destination, socket.id.remote.to_string()},
                           {key::cookie, socket.id.cookie},
                           {key::half_closed, socket.half_closed},
                           {key::idle_seconds, std::chrono::duration<double>(socket.idle).count()},
                           {key::bytes_sent, socket.bytes_sent},
                           {key::bytes_received, socket.bytes_received},
                           {key::unread_bytes, socket.unread},
                           {key::unacknowledged_bytes, socket.unacknowledged}});
  }
  return {{key::connections, std::move(connections)},
          {key::truncated, list.truncated},
          {key::problems, std::move(list.problems)}};
}

json to_json(const AgentStats& stats, const Readiness& readiness, const config::Snapshot* snapshot,
             const base::Result<BpfCounters>& bpf, base::Instant now) {
  json workers = json::array(), sources = json::array();
  for (const WorkerRow& worker : stats.workers) {
    workers.push_back({{key::index, worker.index},
                       {key::pods, worker.pods},
                       {key::downstream_connections, worker.downstream_connections},
                       {key::upstream_connections, worker.upstream_connections},
                       {key::tcp_relays, worker.tcp_relays},
                       {key::active_rpcs, worker.active_rpcs},
                       {key::rpcs_total, worker.rpcs_total}});
  }
  for (const ConfigSource& source : stats.sources) {
    sources.push_back({{key::name, source.name}, {key::state, source.state}});
  }
  return {{key::version, stats.version},
          {key::node, stats.node_name},
          {key::pid, ::getpid()},
          {key::uptime_seconds, std::chrono::duration<double>(now - stats.started).count()},
          {key::time_ns, now.time_since_epoch().count()},
          {key::ready, readiness.ready},
          {key::not_ready_reason, readiness.reason},
          {key::draining, stats.draining},
          {key::config, snapshot ? config_of(stats, *snapshot, now) : json(nullptr)},
          {key::sources, std::move(sources)},
          {key::workers, std::move(workers)},
          {key::bpf, bpf_of(bpf)},
          {key::redirect, {{key::state, stats.redirect.on ? "on" : "off"}, {key::reason, stats.redirect.reason}}}};
}

}  // namespace weir::admin
