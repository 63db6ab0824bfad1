// SPDX-License-Identifier: Apache-2.0
// What the agent and weirctl agree on: the paths of the admin socket
// (RUN_DIR/admin.sock, HTTP/1.1) and the names in its JSON. Names are added,
// never changed: weirctl and agent of neighbouring versions work together.
// /metrics, /healthz and /readyz are also served over TCP.
#pragma once

#include <array>

#include "weir/bpf_abi.h"

namespace weir::admin_api {

inline constexpr char kSocketName[] = "admin.sock";

// GET
inline constexpr char kHealth[] = "/healthz";          // 200 while the agent's admin thread lives
inline constexpr char kReady[] = "/readyz";            // 200, or 503 with the reason as text
inline constexpr char kMetrics[] = "/metrics";         // Prometheus text
inline constexpr char kConfigDump[] = "/config_dump";  // ?service=NAMESPACE/NAME: only that service's objects
inline constexpr char kServices[] = "/services";       // config_dump's services alone, same filter
inline constexpr char kPods[] = "/pods";               // enrolment
inline constexpr char kStats[] = "/stats";
inline constexpr char kLogs[] = "/logs";  // ?pod=&service=&failures=1&after=SEQUENCE&tail=N
// Connections that go past weir, now: ?namespace=&pod=NAMESPACE/NAME&service=NAMESPACE/NAME
inline constexpr char kUnmanaged[] = "/unmanaged";
// POST
inline constexpr char kLogging[] = "/logging";  // ?level=debug and/or ?access_log=all|failed|off
inline constexpr char kDrain[] = "/drain";
// Closes one of them: ?uid=POD_UID&source=IP:PORT&destination=IP:PORT&cookie=N&min_idle_ms=N or &active=1
inline constexpr char kAdopt[] = "/adopt";

// Every answer but metrics and text is an object; an error is {"error": "..."}.
namespace key {
// /config_dump: {revision, services: [...], pods: [...], findings: [...]}
inline constexpr char revision[] = "revision";
inline constexpr char services[] = "services";
inline constexpr char pods[] = "pods";
inline constexpr char findings[] = "findings";
// a service: {namespace, name, fqdn, vips, by_endpoint, labels, ports: [...]}
inline constexpr char namespace_name[] = "namespace";
inline constexpr char name[] = "name";
inline constexpr char fqdn[] = "fqdn";
inline constexpr char vips[] = "vips";
inline constexpr char by_endpoint[] = "by_endpoint";  // headless, and its endpoints' own addresses are diverted
inline constexpr char labels[] = "labels";
inline constexpr char ports[] = "ports";
// a port: {name, port, protocol, mode, diverted_mode, reason, cluster, misdeclared_connections}; with
// endpoint_addresses: [IP:port] if by_endpoint
inline constexpr char port[] = "port";
inline constexpr char protocol[] = "protocol";
inline constexpr char mode[] = "mode";                    // declared
inline constexpr char diverted_mode[] = "diverted_mode";  // what the BPF map says: "none" without endpoints
inline constexpr char reason[] = "reason";
inline constexpr char cluster[] = "cluster";  // null: none
inline constexpr char endpoint_addresses[] = "endpoint_addresses";
// That were not the HTTP/2 that the port declares, and passed as TCP; absent: none.
inline constexpr char misdeclared_connections[] = "misdeclared_connections";
// a cluster: {name, load_balancing, connect_timeout_ms, endpoints: [{address, pod, node}]}
inline constexpr char load_balancing[] = "load_balancing";
inline constexpr char connect_timeout_ms[] = "connect_timeout_ms";
inline constexpr char endpoints[] = "endpoints";
inline constexpr char address[] = "address";
inline constexpr char pod[] = "pod";
inline constexpr char node[] = "node";
// a pod of /config_dump: {namespace, name, uid, node, service_account, ips, labels, dataplane, refusal, excluded_ports,
// fail_closed, redirect}
inline constexpr char uid[] = "uid";
inline constexpr char service_account[] = "service_account";
inline constexpr char ips[] = "ips";
inline constexpr char dataplane[] = "dataplane";  // enabled, observe, disabled
inline constexpr char refusal[] = "refusal";
inline constexpr char excluded_ports[] = "excluded_ports";
inline constexpr char fail_closed[] = "fail_closed";
inline constexpr char redirect[] = "redirect";
// a finding: {code, severity, file, line, object, message, fix}
inline constexpr char code[] = "code";
inline constexpr char severity[] = "severity";
inline constexpr char file[] = "file";
inline constexpr char line[] = "line";
inline constexpr char object[] = "object";
inline constexpr char message[] = "message";
inline constexpr char fix[] = "fix";
// /pods: {pods: [{namespace, name, uid, ips, dataplane, state, reason, netns_cookie, listener_port, worker,
// enrolment_ms, unmanaged_connections}]}
inline constexpr char state[] = "state";  // enrolled, waiting, refused, failed, disabled
inline constexpr char netns_cookie[] = "netns_cookie";
inline constexpr char listener_port[] = "listener_port";
inline constexpr char worker[] = "worker";
inline constexpr char enrolment_ms[] = "enrolment_ms";
// /stats: {version, node, pid, uptime_seconds, time_ns, ready, not_ready_reason, draining, config: {revision,
// age_seconds, services, pods, findings: {error, warning, info}}, sources: [{name, state}], workers: [{index, pods,
// downstream_connections, upstream_connections, tcp_relays, active_rpcs, rpcs_total}], bpf: {NAME: n} or {error},
// redirect: {state: on or off, reason},
// access_log: {mode, lines, dropped}}
inline constexpr char version[] = "version";
inline constexpr char pid[] = "pid";
inline constexpr char uptime_seconds[] = "uptime_seconds";
inline constexpr char time_ns[] = "time_ns";  // CLOCK_MONOTONIC at the answer: rates are differences over it
inline constexpr char ready[] = "ready";
inline constexpr char not_ready_reason[] = "not_ready_reason";
inline constexpr char draining[] = "draining";
inline constexpr char config[] = "config";
inline constexpr char age_seconds[] = "age_seconds";
inline constexpr char sources[] = "sources";
inline constexpr char workers[] = "workers";
inline constexpr char index[] = "index";
inline constexpr char downstream_connections[] = "downstream_connections";
inline constexpr char upstream_connections[] = "upstream_connections";
inline constexpr char tcp_relays[] = "tcp_relays";
inline constexpr char active_rpcs[] = "active_rpcs";
inline constexpr char rpcs_total[] = "rpcs_total";
inline constexpr char bpf[] = "bpf";
inline constexpr char access_log[] = "access_log";
inline constexpr char lines[] = "lines";
inline constexpr char dropped[] = "dropped";
// /logs: {records: [{sequence, ...the access log's JSON keys}]}
inline constexpr char records[] = "records";
inline constexpr char sequence[] = "sequence";
// /unmanaged: {connections: [{namespace, pod, uid, service, port, mode, source, destination, cookie, half_closed,
// idle_seconds, bytes_sent, bytes_received, unread_bytes, unacknowledged_bytes}], truncated, problems}; `service` is
// "namespace/name", and the order that of adoption
inline constexpr char connections[] = "connections";
inline constexpr char truncated[] = "truncated";
inline constexpr char problems[] = "problems";
inline constexpr char service[] = "service";
inline constexpr char source[] = "source";
inline constexpr char destination[] = "destination";
inline constexpr char cookie[] = "cookie";
inline constexpr char half_closed[] = "half_closed";  // the server sends nothing more
inline constexpr char idle_seconds[] = "idle_seconds";
inline constexpr char bytes_sent[] = "bytes_sent";
inline constexpr char bytes_received[] = "bytes_received";
inline constexpr char unread_bytes[] = "unread_bytes";
inline constexpr char unacknowledged_bytes[] = "unacknowledged_bytes";
inline constexpr char unmanaged_connections[] = "unmanaged_connections";
// /adopt: {result}
inline constexpr char result[] = "result";  // closed, gone, managed, active
inline constexpr char error[] = "error";
}  // namespace key

// The counters of the BPF programs, by enum weir_stat.
struct BpfStat {
  const char* name;
  const char* help;
};
inline constexpr std::array<BpfStat, WEIR_STAT_MAX> kBpfStats = {{
    {"diverted", "connections diverted to the agent"},
    {"observed", "connections that would be diverted (observe)"},
    {"bypass_brake", "gone the plain way: the brake is on"},
    {"bypass_no_listener", "gone the plain way: no agent listens in the pod"},
    {"bypass_backlog", "gone the plain way: the agent's accept queue is full, or too many connections are under way"},
    {"bypass_stale", "gone the plain way: the agent gave no sign of life"},
    {"bypass_excluded", "gone the plain way: excluded port"},
    {"bypass_device", "gone the plain way: the socket is bound to a device"},
    {"bypass_mptcp", "gone the plain way: MPTCP"},
    {"bypass_error", "gone the plain way: a BPF helper failed"},
    {"refused", "refused: no agent, and the pod's policy is fail-closed"},
    {"handed_over", "original destinations handed over at accept"},
    {"handover_missed", "accepted without an original destination"},
    {"redirected", "connections whose bytes are redirected past TCP"},
    {"redirect_tcp", "connections that could be redirected but stayed on TCP (no preface first, or no peer yet)"},
    {"redirect_overrun", "redirected connections gone back to TCP: too much sent that the agent had not read"},
    {"bypass_learned", "gone the plain way: connections of the pod to this port were not HTTP/2 lately"},
    {"bypass_source_port",
     "gone the plain way: another connection from the source port that the socket is bound to is diverted"},
}};

}  // namespace weir::admin_api
