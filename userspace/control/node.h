// Node is the agent of the DaemonSet: its control thread turns manifests, what the API server
// says, and pods into Snapshots, keeps the BPF maps and the pods' listeners in step, and starts,
// drains and ends the workers.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "control/handover.h"
#include "control/service_rows.h"
#include "control/verdict_rows.h"
#include "control/watchdog.h"
#include "interception/adoption.h"
#include "interception/enrolment.h"
#include "interception/heartbeats.h"
#include "interception/programs.h"
#include "interception/unmanaged_survey.h"
#include "kubernetes/api_source.h"
#include "kubernetes/manifest_directory.h"
#include "kubernetes/object_store.h"
#include "kubernetes/translate.h"
#include "proxy/worker.h"

namespace weir::control {

struct NodeOptions {
  std::string manifests;                     // directory; empty: none
  std::optional<kubernetes::ApiAccess> api;  // the API server; one of the two at least
  kubernetes::ReflectorSettings reflector;
  std::string user_agent;
  kubernetes::ObjectKey daemon_set{kubernetes::Kind::daemon_set, {}, {}};  // that runs this agent, if it has a name
  std::string pod_name;                                                    // the agent's own
  bool events = true;  // what is wrong with objects is written to the API server, if the agent has a namespace
  kubernetes::ClusterSettings cluster;
  std::string bpf_dir = "/sys/fs/bpf/weir";
  std::string run_dir = "/run/weir";      // where another agent of this node is found
  std::vector<std::string> cgroup_roots;  // empty: found in /proc/mounts
  std::string proc = "/proc";
  uint32_t workers = 1;
  base::Duration drain_timeout = std::chrono::minutes(10);
  base::Duration send_timeout = std::chrono::seconds(30);
  base::Duration stream_idle_timeout{0};
  http2::Limits limits;
  base::Duration linger = std::chrono::microseconds(100);  // see io::Reactor::Options
  interception::RedirectSetting redirect = interception::RedirectSetting::automatic;
  proxy::PodLimits pod_limits;
  proxy::LearningOptions learning;
  uint64_t memory_limit = 0;      // of the agent's container, in bytes; 0: none
  uint64_t descriptor_limit = 0;  // RLIMIT_NOFILE; 0: none
};

// What other threads may know; a consistent copy, replaced as a whole.
struct NodeStatus {
  bool begun = false;         // the configuration has been read once, and this node's pods are enrolled by it
  bool settled = false;       // all pods that ran then are listened in, or have had their time
  std::string hooks_problem;  // why connections are not diverted at all; empty: they are
  std::shared_ptr<const config::Snapshot> snapshot;
  base::Instant configured;     // when the snapshot was built ...
  base::Duration build_time{};  // ... and how long that took, from objects in memory
  std::vector<interception::PodStatus> pods;
  std::vector<interception::UnmanagedCount> unmanaged;  // as last counted, see UnmanagedSurvey
  uint64_t unmanaged_failures = 0;
  bool draining = false;
  bool superseded = false;  // another agent has taken over
};

class Node final : private interception::EnrolmentEvents {
 public:
  // Reads the manifests, attaches the BPF programs, starts the workers (one a recorder); diverts nothing yet. Errors
  // name the remedy. Signals SIGTERM and SIGINT must be blocked in every thread: run() takes them.
  static base::Result<std::unique_ptr<Node>> start(NodeOptions options,
                                                   std::span<const std::unique_ptr<telemetry::Recorder>> recorders);
  ~Node() override;

  // Null without one.
  const kubernetes::ApiSource* api() const { return api_.get(); }

  // The control thread's loop. It begins with the pods as soon as the configuration is complete, and takes over from an
  // agent that runs. Returns after SIGTERM or SIGINT, when everything has drained. An agent that was
  // superseded drains at once, and also returns if the one that took over is gone: to be started again.
  void run();
  // After run(): the DaemonSet that ran this agent is gone or going, or its namespace is, and no other agent is there
  // to go on. What is pinned is to go too.
  bool uninstalled();
  // As SIGTERM. Thread-safe.
  void drain();

  // Thread-safe.
  std::shared_ptr<const NodeStatus> status() const;
  const proxy::WorkerStats& worker_stats(uint32_t worker) const { return workers_[worker]->stats(); }
  uint32_t worker_count() const { return static_cast<uint32_t>(workers_.size()); }
  interception::Maps& maps() { return programs_->maps(); }
  const interception::RedirectState& redirect() const { return programs_->redirect(); }
  // Thread-safe, like what it does.
  interception::Adoption& adoption() { return *adoption_; }
  // See Watchdog.
  std::optional<std::string> stuck() const { return watchdog_->stuck(base::MonotonicClock::now()); }
  uint64_t verdict_failures() const { return verdict_rows_->failures(); }

 private:
  explicit Node(NodeOptions options);
  base::Result<void> prepare(std::span<const std::unique_ptr<telemetry::Recorder>> recorders);
  std::shared_ptr<const config::Snapshot> build_snapshot();
  bool synced() const { return !api_ || api_->synced(); }
  void begin(base::Instant now);
  void configure(base::Instant now);
  void build(base::Instant now);
  void apply(std::shared_ptr<const config::Snapshot> next, const config::Snapshot* previous, base::Instant now);
  void on_signal(uint32_t signal, base::Instant now);
  void on_handover(base::Instant now);
  void begin_drain(base::Instant now);
  bool drained(base::Instant now);
  void publish();
  void sweep_foreign_pods();
  void sweep_verdicts(base::Instant now);
  void check_hooks();

  interception::PodWorker enrolled(interception::EnrolledPod pod) override;
  void updated(std::shared_ptr<const config::Pod> pod) override;
  void removed(const std::string& uid) override;

  NodeOptions options_;
  uint64_t generation_;
  kubernetes::ObjectStore store_;
  std::unique_ptr<kubernetes::ManifestDirectory> directory_;
  std::unique_ptr<kubernetes::ApiSource> api_;
  std::unique_ptr<kubernetes::Translator> translator_;
  std::unique_ptr<interception::Programs> programs_;
  std::optional<interception::Heartbeats> heartbeats_;
  std::vector<interception::Heartbeat> heartbeat_of_worker_;
  std::unique_ptr<VerdictRows> verdict_rows_;
  std::unique_ptr<ServiceRows> service_rows_;
  std::optional<Handover> handover_;
  std::unique_ptr<interception::Enrolment> enrolment_;
  std::unique_ptr<interception::UnmanagedSurvey> survey_;
  std::unique_ptr<interception::Adoption> adoption_;
  std::unique_ptr<Watchdog> watchdog_;
  std::vector<std::unique_ptr<proxy::Worker>> workers_;
  std::unordered_map<std::string, uint32_t> worker_of_pod_;  // by UID
  std::vector<uint32_t> pods_of_worker_;
  std::shared_ptr<const config::Snapshot> snapshot_;

  base::Fd signals_, wakeup_;
  base::Instant configured_{}, built_{}, drain_deadline_{}, verdicts_swept_{};
  std::optional<base::Instant> begun_;
  std::optional<base::Instant> build_due_;  // a complete build, for the findings
  base::Duration build_time_{};             // of the last complete build
  bool draining_ = false, drained_ = false, abandoned_ = false, superseded_ = false, may_end_ = false;
  bool foreign_pods_swept_ = false, status_stale_ = true, daemon_set_seen_ = false, settled_ = false;
  std::string hooks_problem_;
  mutable std::mutex status_mutex_;
  std::shared_ptr<const NodeStatus> status_;
};

}  // namespace weir::control
