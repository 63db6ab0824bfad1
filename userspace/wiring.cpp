#include "wiring.h"

#include <functional>
#include <utility>

#include "admin/bpf_metrics.h"
#include "admin/unmanaged_metrics.h"
#include "base/log.h"
#include "readiness.h"

namespace weir {
namespace {

using proxy::Counter;
using proxy::WorkerStats;
using telemetry::MetricKind;

struct WorkerMetric {
  const char* name;
  const char* help;
  MetricKind kind;
  Counter WorkerStats::*counter;
};

constexpr WorkerMetric kWorkerMetrics[] = {
    {"weir_downstream_connections", "HTTP/2 connections of applications.", MetricKind::gauge,
     &WorkerStats::downstream_connections},
    {"weir_downstream_connections_total", "HTTP/2 connections of applications since the start.", MetricKind::counter,
     &WorkerStats::downstream_connections_total},
    {"weir_upstream_connections", "HTTP/2 connections to endpoints.", MetricKind::gauge,
     &WorkerStats::upstream_connections},
    {"weir_upstream_connections_total", "HTTP/2 connections to endpoints since the start.", MetricKind::counter,
     &WorkerStats::upstream_connections_total},
    {"weir_upstream_connect_failures_total", "Connections to endpoints that never became usable.", MetricKind::counter,
     &WorkerStats::upstream_connect_failures},
    {"weir_tcp_relays", "Connections relayed as TCP.", MetricKind::gauge, &WorkerStats::tcp_relays},
    {"weir_tcp_relays_total", "Connections relayed as TCP since the start.", MetricKind::counter,
     &WorkerStats::tcp_relays_total},
    {"weir_tcp_spliced_bytes_total", "Bytes relayed as TCP that were not copied.", MetricKind::counter,
     &WorkerStats::tcp_spliced_bytes},
    {"weir_active_rpcs", "RPCs under way.", MetricKind::gauge, &WorkerStats::active_rpcs},
    {"weir_rpcs_total", "RPCs that have ended.", MetricKind::counter, &WorkerStats::rpcs_total},
    {"weir_outlier_ejections_total", "Times that outlier detection has ejected an endpoint, each for one pod.",
     MetricKind::counter, &WorkerStats::outlier_ejections},
    {"weir_outlier_ejected_endpoints", "Endpoints that are ejected, each for one pod.", MetricKind::gauge,
     &WorkerStats::ejected_endpoints},
    {"weir_upstream_pool_overflows_total", "RPCs that a limit of connectionPool did not allow.", MetricKind::counter,
     &WorkerStats::pool_overflows},
    {"weir_upstream_retries_total", "Attempts that a retry policy asked for.", MetricKind::counter,
     &WorkerStats::retries},
    {"weir_upstream_retry_overflows_total", "Attempts that retryBudget or maxRetries did not allow.",
     MetricKind::counter, &WorkerStats::retry_overflows},
    {"weir_upstream_replay_overflows_total", "RPCs whose request became too large to be kept for another attempt.",
     MetricKind::counter, &WorkerStats::replay_overflows},
    {"weir_downstream_protocol_errors_total", "Connections of applications that broke HTTP/2.", MetricKind::counter,
     &WorkerStats::downstream_protocol_errors},
    {"weir_upstream_protocol_errors_total", "Connections to endpoints that broke HTTP/2.", MetricKind::counter,
     &WorkerStats::upstream_protocol_errors},
    {"weir_undiverted_accepts_total", "Connections to a pod's listener that were not diverted, and closed.",
     MetricKind::counter, &WorkerStats::undiverted_accepts},
    {"weir_accept_failures_total",
     "Accepts that failed for lack of descriptors or memory, and listeners that could not be waited for.",
     MetricKind::counter, &WorkerStats::accept_failures},
    {"weir_redirect_stalls_total", "Sends put off because a redirected application had not read what it was sent.",
     MetricKind::counter, &WorkerStats::redirect_stalls},
    {"weir_worker_turns_total", "Turns of the worker's loop.", MetricKind::counter, &WorkerStats::turns},
};

// Families whose samples differ by one label.
struct LabelledMetric {
  const char* name;
  const char* help;
  const char* label;
  std::vector<std::pair<const char*, Counter WorkerStats::*>> samples;
};

const LabelledMetric kLabelledMetrics[] = {
    {"weir_pod_limits_total",
     "Connections and RPCs refused, and connections closed, because a pod had reached its limit (agent_memory and "
     "agent_descriptors: all pods together).",
     "limit",
     {{"connections", &WorkerStats::refused_connections},
      {"streams", &WorkerStats::refused_streams},
      {"memory", &WorkerStats::shed_connections},
      {"agent_memory", &WorkerStats::shed_for_agent},
      {"agent_descriptors", &WorkerStats::refused_sockets}}},
    {"weir_stalled_connections_total",
     "Connections closed because the peer did not take what was ready to be sent.",
     "role",
     {{"downstream", &WorkerStats::stalled_downstreams}, {"upstream", &WorkerStats::stalled_upstreams}}},
};

double sum_of_workers(const control::Node& node, Counter WorkerStats::*counter) {
  double sum = 0;
  for (uint32_t i = 0; i < node.worker_count(); ++i)
    sum += static_cast<double>((node.worker_stats(i).*counter).value());
  return sum;
}

const char* state_name(interception::PodState state) {
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
      return "disabled";
  }
  return "unknown";
}

std::vector<telemetry::Sample> pods_by_state(const control::Node& node) {
  std::map<std::string, double> counts{{"waiting", 0}, {"enrolled", 0}, {"refused", 0}, {"failed", 0}};
  for (const interception::PodStatus& pod : node.status()->pods) ++counts[state_name(pod.state)];
  std::vector<telemetry::Sample> samples;
  samples.reserve(counts.size());
  for (const auto& [state, count] : counts) samples.push_back({{{"state", state}}, count});
  return samples;
}

// Every series is there from the start, so that an alert can wait for it to move.
std::vector<telemetry::Sample> http2_limits(const control::Node& node) {
  using http2::Limit;
  constexpr std::pair<const char*, proxy::LimitCounters WorkerStats::*> kRoles[] = {
      {"downstream", &WorkerStats::downstream_limits}, {"upstream", &WorkerStats::upstream_limits}};
  constexpr std::pair<const char*, Counter proxy::LimitCounter::*> kActions[] = {
      {"drain", &proxy::LimitCounter::drained}, {"enforce", &proxy::LimitCounter::enforced}};
  std::vector<telemetry::Sample> samples;
  for (const auto& [role, counters] : kRoles) {
    for (size_t limit = 0; limit < http2::kLimits; ++limit) {
      for (const auto& [action, counter] : kActions) {
        // Only floods have a stage before the last.
        if (counter == &proxy::LimitCounter::drained && !http2::is_flood(static_cast<Limit>(limit))) continue;
        double sum = 0;
        for (uint32_t i = 0; i < node.worker_count(); ++i) {
          sum += static_cast<double>(((node.worker_stats(i).*counters)[limit].*counter).value());
        }
        samples.push_back(
            {{{"role", role}, {"limit", std::string(http2::kLimitNames[limit])}, {"action", action}}, sum});
      }
    }
  }
  return samples;
}

std::vector<telemetry::Sample> detected(const control::Node& node) {
  constexpr const char* kDeclared[] = {"http2", "none"};  // in the order of WorkerStats::detected
  std::vector<telemetry::Sample> samples;
  for (size_t declared = 0; declared < std::size(kDeclared); ++declared) {
    for (size_t verdict = 0; verdict < detection::kVerdicts; ++verdict) {
      double sum = 0;
      for (uint32_t i = 0; i < node.worker_count(); ++i)
        sum += static_cast<double>(node.worker_stats(i).detected[declared][verdict].value());
      samples.push_back({{{"declared", kDeclared[declared]},
                          {"detected", detection::to_string(static_cast<detection::Verdict>(verdict))}},
                         sum});
    }
  }
  return samples;
}

// Of every resource that is followed in the API server.
std::vector<telemetry::Sample> of_resources(const control::Node& node,
                                            const std::function<double(const kubernetes::ResourceStatus&)>& value) {
  std::vector<telemetry::Sample> samples;
  for (const kubernetes::ResourceStatus& resource : node.api()->status())
    samples.push_back({{{"resource", resource.name}}, value(resource)});
  return samples;
}

void add_api_metrics(telemetry::Metrics& metrics, const control::Node& node) {
  using kubernetes::ResourceStatus;
  metrics.add_family(
      "weir_kubernetes_synced", "Whether the resource has been listed once in the API server.", MetricKind::gauge,
      [&node] { return of_resources(node, [](const ResourceStatus& r) { return r.synced ? 1.0 : 0.0; }); });
  metrics.add_family("weir_kubernetes_followed",
                     "Whether the resource is followed in the API server now: 0 after a failure, until it is again.",
                     MetricKind::gauge, [&node] {
                       return of_resources(node, [](const ResourceStatus& r) { return r.problem.empty() ? 1.0 : 0.0; });
                     });
  metrics.add_family("weir_kubernetes_last_contact_seconds",
                     "Time since the API server last said something of the resource (bookmarks come every minute).",
                     MetricKind::gauge, [&node] {
                       return of_resources(node, [](const ResourceStatus& r) {
                         return r.last_contact == base::Instant() ? -1 : seconds_since(r.last_contact);
                       });
                     });
  metrics.add_family("weir_kubernetes_watch_events_total", "Events of watches.", MetricKind::counter, [&node] {
    return of_resources(node, [](const ResourceStatus& r) { return static_cast<double>(r.events); });
  });
  metrics.add_family(
      "weir_kubernetes_requests_total",
      "Requests to the API server by the HTTP status of the answer; error: without one.", MetricKind::counter, [&node] {
        std::vector<telemetry::Sample> samples;
        for (const ResourceStatus& resource : node.api()->status())
          for (const auto& [code, count] : resource.requests)
            samples.push_back({{{"resource", resource.name}, {"code", code}}, static_cast<double>(count)});
        return samples;
      });
  if (!node.api()->events()) return;
  metrics.add("weir_kubernetes_events_writer", "Whether this agent is the one that writes Events.", MetricKind::gauge,
              [&node] { return node.api()->events()->writes ? 1.0 : 0.0; });
  metrics.add_family(
      "weir_kubernetes_events_total",
      "Events about rejected objects and conflicts, and requests for them or their lease that failed, by "
      "what became of them (limited: put off by a rate limit, or left out for there are too many).",
      MetricKind::counter, [&node] {
        const kubernetes::EventStatus status = *node.api()->events();
        std::vector<telemetry::Sample> samples;
        for (size_t i = 0; i < status.counts.size(); ++i)
          samples.push_back({{{"result", kubernetes::kEventResults[i]}}, static_cast<double>(status.counts[i])});
        return samples;
      });
}

admin::AgentStats agent_stats(const control::Node& node, const control::NodeOptions& options, base::Instant started) {
  const auto status = node.status();
  admin::AgentStats stats;
  stats.version = WEIR_VERSION;
  stats.node_name = options.cluster.node_name;
  stats.started = started;
  stats.configured = status->configured;
  stats.draining = status->draining;
  stats.redirect = node.redirect();
  if (!options.manifests.empty()) stats.sources.push_back({"manifests " + options.manifests, "watching"});
  if (node.api()) stats.sources.push_back({"API server " + node.api()->server(), state_of(*node.api())});
  for (uint32_t i = 0; i < node.worker_count(); ++i) {
    const WorkerStats& worker = node.worker_stats(i);
    stats.workers.push_back({i, worker.sources.value(), worker.downstream_connections.value(),
                             worker.upstream_connections.value(), worker.tcp_relays.value(), worker.active_rpcs.value(),
                             worker.rpcs_total.value()});
  }
  return stats;
}

}  // namespace

admin::Sources admin_sources(control::Node& node, const control::NodeOptions& options,
                             const telemetry::Metrics& metrics, telemetry::AccessLog& access_log,
                             std::shared_ptr<admin::PortCounters> port) {
  const base::Instant started = base::MonotonicClock::now();
  admin::Sources sources;
  sources.stuck = [&node] { return node.stuck(); };
  sources.ready = [&node, manifests = options.manifests] { return readiness(node, manifests); };
  sources.stats = [&node, options, started] { return agent_stats(node, options, started); };
  sources.snapshot = [&node] { return node.status()->snapshot; };
  sources.pods = [&node] { return node.status()->pods; };
  sources.bpf_counters = [&node] { return node.maps().stats(); };
  sources.unmanaged = [&node](const interception::UnmanagedSelection& selection) {
    const auto status = node.status();
    return node.adoption().list(status->pods, status->snapshot, selection);
  };
  sources.adopt = [&node](const interception::AdoptRequest& request) {
    const auto status = node.status();
    return node.adoption().adopt(status->pods, status->snapshot, request);
  };
  sources.set_log_level = &base::set_log_level;
  sources.drain = [&node] { node.drain(); };
  sources.metrics = &metrics;
  sources.access_log = &access_log;
  sources.port = std::move(port);
  return sources;
}

void add_agent_metrics(telemetry::Metrics& metrics, control::Node& node,
                       std::shared_ptr<const admin::PortCounters> port) {
  metrics.use_snapshot([&node] { return node.status()->snapshot; });
  metrics.add_family("weir_build_info", "The version, as a label.", MetricKind::gauge, [] {
    return std::vector<telemetry::Sample>{{{{"version", WEIR_VERSION}}, 1}};
  });
  metrics.add("weir_redirect_enabled", "Whether declared HTTP/2 connections are redirected past TCP.",
              MetricKind::gauge, [&node] { return node.redirect().on ? 1.0 : 0.0; });
  metrics.add("weir_config_age_seconds", "Time since the configuration in use was built.", MetricKind::gauge,
              [&node] { return seconds_since(node.status()->configured); });
  metrics.add("weir_config_build_seconds", "How long the last complete build took from the objects read.",
              MetricKind::gauge, [&node] { return std::chrono::duration<double>(node.status()->build_time).count(); });
  metrics.add("weir_config_revision", "Revision of the configuration in use.", MetricKind::gauge,
              [&node] { return static_cast<double>(node.status()->snapshot->revision); });
  metrics.add("weir_config_findings", "Findings about the configuration in use.", MetricKind::gauge,
              [&node] { return static_cast<double>(node.status()->snapshot->findings->size()); });
  metrics.add_family("weir_pods", "Pods of this node that ask for weir, by what became of it.", MetricKind::gauge,
                     [&node] { return pods_by_state(node); });
  for (const WorkerMetric& metric : kWorkerMetrics) {
    metrics.add(metric.name, metric.help, metric.kind,
                [&node, counter = metric.counter] { return sum_of_workers(node, counter); });
  }
  for (const LabelledMetric& metric : kLabelledMetrics) {
    metrics.add_family(metric.name, metric.help, MetricKind::counter, [&node, &metric] {
      std::vector<telemetry::Sample> samples;
      for (const auto& [value, counter] : metric.samples)
        samples.push_back({{{metric.label, value}}, sum_of_workers(node, counter)});
      return samples;
    });
  }
  metrics.add_family("weir_http2_limits_total",
                     "How often a limit on HTTP/2 peers acted: drained the connection before it was reached, or was "
                     "enforced by ending the connection or refusing the stream.",
                     MetricKind::counter, [&node] { return http2_limits(node); });
  metrics.add_family(
      "weir_detected_connections_total",
      "What diverted connections turned out to be by their first bytes: to ports that declare HTTP/2, and "
      "to those that declare nothing (or http).",
      MetricKind::counter, [&node] { return detected(node); });
  metrics.add("weir_verdict_failures_total",
              "Times that what connections turned out to be could not be told to the BPF programs: the map is full, or "
              "can't be written. Such connections go through the agent.",
              MetricKind::counter, [&node] { return static_cast<double>(node.verdict_failures()); });
  metrics.add_family("weir_metrics_port_closed_total",
                     "Connections to the port for metrics and probes that were closed: the whole request or its answer "
                     "took too long, others were too many, it was no request.",
                     MetricKind::counter, [port = std::move(port)] {
                       return std::vector<telemetry::Sample>{
                           {{{"reason", "slow"}}, static_cast<double>(port->slow)},
                           {{{"reason", "crowded"}}, static_cast<double>(port->crowded)},
                           {{{"reason", "malformed"}}, static_cast<double>(port->malformed)}};
                     });
  admin::add_unmanaged_metrics(metrics, [&node] {
    const auto status = node.status();
    admin::UnmanagedTotals totals{status->unmanaged, status->unmanaged_failures, {}};
    for (size_t i = 0; i < totals.adoptions.size(); ++i)
      totals.adoptions[i] = node.adoption().count(static_cast<interception::AdoptResult>(i));
    return totals;
  });
  if (node.api()) add_api_metrics(metrics, node);
  admin::add_bpf_metrics(metrics, [&node] { return node.maps().stats(); });
}

}  // namespace weir
