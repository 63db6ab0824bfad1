// Sources: what the admin server asks for, filled in by main. Every function
// may be called from several threads at once, and must not wait for a worker.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "config/snapshot.h"
#include "interception/adoption.h"
#include "interception/enrolment.h"
#include "interception/redirect_gate.h"
#include "telemetry/access_log.h"
#include "telemetry/metrics.h"
#include "weir/bpf_abi.h"

namespace weir::admin {

struct Readiness {
  bool ready = false;
  std::string reason = {};                // why not, for people
  std::vector<std::string> details = {};  // lines, of an agent that is ready
};

// A worker, as `weirctl status` shows it.
struct WorkerRow {
  uint32_t index = 0;
  uint64_t pods = 0;
  uint64_t downstream_connections = 0, upstream_connections = 0, tcp_relays = 0;
  uint64_t active_rpcs = 0, rpcs_total = 0;
};

// Where configuration comes from: a directory of manifests, the API server.
struct ConfigSource {
  std::string name;   // "manifests /etc/weir"
  std::string state;  // "watching", or what is wrong
};

struct AgentStats {
  std::string version, node_name;
  base::Instant started;
  base::Instant configured;  // when the snapshot in use was built
  bool draining = false;
  interception::RedirectState redirect;
  std::vector<ConfigSource> sources;
  std::vector<WorkerRow> workers;
};

// Connections that the port for metrics and probes has closed unasked, or answered with 400.
struct PortCounters {
  std::atomic<uint64_t> slow{0}, crowded{0}, malformed{0};
};

using BpfCounters = std::array<uint64_t, WEIR_STAT_MAX>;

struct Sources {
  std::function<std::optional<std::string>()> stuck;  // a thread that has stood still for too long
  std::function<Readiness()> ready;
  std::function<AgentStats()> stats;
  std::function<std::shared_ptr<const config::Snapshot>()> snapshot;  // may answer null: none yet
  std::function<std::vector<interception::PodStatus>()> pods;
  std::function<base::Result<BpfCounters>()> bpf_counters;
  std::function<interception::UnmanagedList(const interception::UnmanagedSelection&)> unmanaged;
  std::function<base::Result<interception::AdoptResult>(const interception::AdoptRequest&)> adopt;
  std::function<base::Result<void>(const std::string& level)> set_log_level;
  std::function<void()> drain;
  const telemetry::Metrics* metrics = nullptr;  // outlive the server
  telemetry::AccessLog* access_log = nullptr;
  std::shared_ptr<PortCounters> port = std::make_shared<PortCounters>();
};

}  // namespace weir::admin
