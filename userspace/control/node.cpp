#include "control/node.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "interception/cgroup_tree.h"

namespace weir::control {
namespace {

using base::log::error;
using base::log::info;
using base::log::warn;

constexpr auto kTick = std::chrono::seconds(1);
constexpr int kBuildPart = 10;        // complete builds have a tenth of the thread's time at most
constexpr uint64_t kWaitingPart = 2;  // half of the container's memory may wait for pods
constexpr auto kVerdictSweep = std::chrono::seconds(30);
// Descriptors for listeners, configuration, admin and BPF: so many, and half of a low limit.
constexpr uint64_t kOwnDescriptors = 1024;
// Of all workers: Linux counts 64 pages for each, and gives a user without privileges little beyond 16,384.
constexpr uint64_t kPipes = 128, kSocketsPerPipe = 32;
constexpr auto kDrainPoll = std::chrono::milliseconds(20);
// Pods' rows of other agents are theirs until this agent has had time to take the pods over.
constexpr auto kForeignRowsGrace = std::chrono::seconds(10);
// A pod that can't be listened in keeps a node's agent unready for no longer.
constexpr auto kEnrolmentPatience = std::chrono::seconds(30);
constexpr auto kSnapshotPatience = std::chrono::seconds(1);
static_assert(proxy::kReadReport <= WEIR_READ_REPORT);

// Unique among the agents of a boot: nanoseconds since it.
uint64_t new_generation() { return static_cast<uint64_t>(base::MonotonicClock::now().time_since_epoch().count()); }

void log_new_findings(const config::Snapshot& now, const config::Snapshot* before) {
  // By object and message: thousands may have one message.
  using Key = std::pair<std::string_view, std::string_view>;
  std::multimap<Key, const config::Finding*> known;
  if (before)
    for (const config::Finding& finding : *before->findings)
      known.emplace(Key{finding.object, finding.message}, &finding);
  for (const config::Finding& finding : *now.findings) {
    const auto [first, last] = known.equal_range({finding.object, finding.message});
    if (std::any_of(first, last, [&](const auto& entry) { return *entry.second == finding; })) continue;
    const std::string place = finding.file.empty() ? "" : finding.file + ":" + std::to_string(finding.line) + " ";
    const std::string line = finding.code + " " + place + finding.object + ": " + finding.message +
                             (finding.fix.empty() ? "" : " (" + finding.fix + ")");
    switch (finding.severity) {
      case config::Severity::error:
        error("{}", line);
        break;
      case config::Severity::warning:
        warn("{}", line);
        break;
      case config::Severity::info:
        info("{}", line);
        break;
    }
  }
}

}  // namespace

Node::Node(NodeOptions options) : options_(std::move(options)), generation_(new_generation()) {}

Node::~Node() = default;

base::Result<std::unique_ptr<Node>> Node::start(NodeOptions options,
                                                std::span<const std::unique_ptr<telemetry::Recorder>> recorders) {
  std::unique_ptr<Node> node(new Node(std::move(options)));
  if (auto prepared = node->prepare(recorders); !prepared) return prepared.error();
  return node;
}

base::Result<void> Node::prepare(std::span<const std::unique_ptr<telemetry::Recorder>> recorders) {
  const base::Instant started = base::MonotonicClock::now();
  sigset_t terminating;
  sigemptyset(&terminating);
  sigaddset(&terminating, SIGTERM);
  sigaddset(&terminating, SIGINT);
  signals_ = base::Fd(signalfd(-1, &terminating, SFD_NONBLOCK | SFD_CLOEXEC));
  wakeup_ = base::Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!signals_ || !wakeup_) return base::system_error("signalfd", errno);

  // 1. Configuration: files are read here, what the API server says comes later.
  if (!options_.manifests.empty()) {
    directory_ = std::make_unique<kubernetes::ManifestDirectory>(options_.manifests, &store_);
    if (auto loaded = directory_->load(started); !loaded) return loaded.error();
  }
  auto handover = Handover::open(options_.run_dir);
  if (!handover) return handover.error();
  handover_.emplace(std::move(*handover));
  if (handover_->has_predecessor()) info("another agent runs with {}: it is taken over from", options_.run_dir);
  if (options_.api) {
    kubernetes::ApiSourceOptions source{
        options_.cluster.node_name, options_.daemon_set, options_.user_agent, options_.reflector, {}};
    const std::string& own_namespace = options_.daemon_set.namespace_name;
    const std::string& node_name = options_.cluster.node_name;
    if (options_.events && !own_namespace.empty())
      source.events = kubernetes::EventOptions{own_namespace,
                                               {options_.pod_name.empty() ? node_name : options_.pod_name, node_name}};
    api_ = std::make_unique<kubernetes::ApiSource>(*options_.api, source, &store_);
    info("configuration is read from {}", options_.api->server);
  }
  translator_ = std::make_unique<kubernetes::Translator>(options_.cluster);
  snapshot_ = std::make_shared<const config::Snapshot>();
  configured_ = started;

  // 2. The programs, diverting nothing yet: `pods` holds no row of ours.
  auto cgroups = interception::find_cgroup_tree(options_.proc);
  if (!cgroups) return cgroups.error();
  if (!options_.cgroup_roots.empty()) {
    cgroups->roots = options_.cgroup_roots;
    const bool in_v2 = options_.cgroup_roots.front().starts_with(cgroups->v2_mount + "/");
    cgroups->pods_cgroup = in_v2 ? options_.cgroup_roots.front() : cgroups->v2_mount;
  }
  auto programs =
      interception::Programs::load({options_.bpf_dir, cgroups->pods_cgroup, cgroups->agent_cgroup,
                                    interception::redirect_gate(options_.redirect, interception::running_kernel())});
  if (!programs) return programs.error();
  programs_ = std::make_unique<interception::Programs>(std::move(*programs));
  if (auto attached = programs_->attach(); !attached) return attached.error();
  info("BPF programs attached at {}, pinned below {}", cgroups->pods_cgroup, options_.bpf_dir);
  info("redirect past TCP is {}: {}", redirect().on ? "on" : "off", redirect().reason);
  verdict_rows_ = std::make_unique<VerdictRows>(VerdictMap::of(maps()));
  ServiceMap service_map = ServiceMap::of(maps());
  service_map.end_verdicts = [this](const auto& vips) { verdict_rows_->end(vips); };
  service_rows_ = std::make_unique<ServiceRows>(std::move(service_map), generation_, options_.learning.after > 0);

  // 3. The workers.
  auto heartbeats = interception::Heartbeats::open(maps(), generation_);
  if (!heartbeats) return heartbeats.error();
  heartbeats_ = std::move(*heartbeats);
  watchdog_ = std::make_unique<Watchdog>(recorders.size(), base::MonotonicClock::now());
  for (const auto& recorder : recorders) {
    proxy::WorkerOptions worker_options;
    worker_options.index = static_cast<uint32_t>(workers_.size());
    worker_options.limits = options_.limits;
    worker_options.reactor.linger = options_.linger;
    auto heartbeat = heartbeats_->claim(base::MonotonicClock::now());
    if (!heartbeat) return heartbeat.error();
    heartbeat_of_worker_.push_back(*heartbeat);
    worker_options.heartbeat = [this, beating = *heartbeat, thread = Watchdog::of_worker(workers_.size())](auto now) {
      beating.beat(now);
      watchdog_->seen(thread, now);
    };
    worker_options.send_timeout = options_.send_timeout;
    worker_options.stream_idle_timeout = options_.stream_idle_timeout;
    worker_options.pod_limits = options_.pod_limits;
    worker_options.max_memory = options_.memory_limit / kWaitingPart / recorders.size();
    worker_options.max_sockets =
        (options_.descriptor_limit - std::min(options_.descriptor_limit / 2, kOwnDescriptors)) / recorders.size();
    worker_options.max_pipes = static_cast<uint32_t>(std::max<uint64_t>(kPipes / recorders.size(), 1));
    if (const uint64_t sockets = worker_options.max_sockets; sockets > 0)
      worker_options.max_pipes =
          static_cast<uint32_t>(std::min<uint64_t>(worker_options.max_pipes, sockets / kSocketsPerPipe));
    worker_options.mark_upstream = [this](int fd) { return maps().mark(fd, WEIR_MARK_UPSTREAM, generation_); };
    worker_options.original_destination = [this](int fd) -> std::optional<proxy::Diverted> {
      const auto original = maps().original_destination(fd);
      if (!original) return std::nullopt;
      return proxy::Diverted{interception::from_abi(original->destination), static_cast<config::Mode>(original->mode)};
    };
    worker_options.learning = options_.learning;
    worker_options.verdicts.learn = [this](uint64_t cookie, const base::SocketAddress& vip, base::Instant expires) {
      verdict_rows_->learn(cookie, vip, expires, options_.learning.sample_every);
    };
    worker_options.verdicts.forget = [this](uint64_t cookie, const base::SocketAddress& vip) {
      verdict_rows_->forget(cookie, vip);
    };
    if (redirect().on) {
      worker_options.redirected = [this](int fd) -> proxy::ReportRead {
        const auto connection = maps().redirected(fd);
        if (!connection) return {};
        return [this, connection = *connection](uint64_t bytes) { maps().report_read(connection, bytes); };
      };
      worker_options.keep_on_tcp = [this](int fd) { return maps().keep_on_tcp(fd); };
    }
    auto worker = proxy::Worker::start(std::move(worker_options), *recorder, snapshot_);
    if (!worker) return worker.error();
    workers_.push_back(std::move(*worker));
  }
  pods_of_worker_.resize(workers_.size());

  // 4. The pods.
  interception::EnrolmentOptions enrolment_options;
  enrolment_options.cgroup_roots = cgroups->roots;
  enrolment_options.proc = options_.proc;
  enrolment_options.generation = generation_;
  enrolment_ = std::make_unique<interception::Enrolment>(enrolment_options, maps(),
                                                         static_cast<interception::EnrolmentEvents&>(*this));
  if (auto watching = enrolment_->start(); !watching) return watching.error();
  const uint64_t own_cgroup = cgroups->agent_cgroup_id;
  const auto diversion = interception::DiversionRows::of(maps(), *heartbeats_);
  survey_ = std::make_unique<interception::UnmanagedSurvey>(diversion, own_cgroup);
  adoption_ = std::make_unique<interception::Adoption>(diversion, own_cgroup);
  publish();
  return {};
}

// The first configuration. Until then the rows of an earlier agent stay, and no pod is enrolled.
void Node::begin(base::Instant now) {
  store_.take_changes();
  auto first = build_snapshot();
  log_new_findings(*first, nullptr);
  if (api_) api_->tell(first->findings);
  if (auto adopted = service_rows_->adopt(); !adopted)
    warn("rows of an earlier agent may stay in the services map: {}", adopted.error().message);
  begun_ = built_ = now;
  apply(std::move(first), nullptr, now);
  if (auto taken = handover_->take_over(); !taken) warn("the agent that ran here: {}", taken.error().message);
  // The other one may have enrolled a pod last, and has taken its row with it.
  enrolment_->claim();
}

void Node::run() {
  if (synced()) begin(base::MonotonicClock::now());
  publish();
  base::Instant next_tick = base::MonotonicClock::now() + kTick;
  while (true) {
    pollfd fds[] = {{signals_.get(), POLLIN, 0},
                    {wakeup_.get(), POLLIN, 0},
                    {directory_ ? directory_->fd() : -1, POLLIN, 0},
                    {enrolment_->fd(), POLLIN, 0},
                    {api_ ? api_->fd() : -1, POLLIN, 0},
                    {handover_->fd(), POLLIN, 0}};
    const base::Instant before = base::MonotonicClock::now();
    base::Duration wait = next_tick - before;
    if (const auto due = directory_ ? directory_->next_deadline() : std::nullopt)
      wait = std::min<base::Duration>(wait, *due - before);
    if (const auto due = survey_->due()) wait = std::min<base::Duration>(wait, *due - before);
    if (build_due_) wait = std::min<base::Duration>(wait, *build_due_ - before);
    if (draining_ && !drained_) wait = std::min<base::Duration>(wait, kDrainPoll);
    const auto wait_ms = std::chrono::ceil<std::chrono::milliseconds>(std::max(wait, base::Duration(0)));
    poll(fds, std::size(fds), static_cast<int>(wait_ms.count()));
    const base::Instant now = base::MonotonicClock::now();
    watchdog_->seen(Watchdog::kControl, now);

    if (fds[0].revents != 0) {
      signalfd_siginfo signal;
      while (read(signals_.get(), &signal, sizeof signal) == sizeof signal) on_signal(signal.ssi_signo, now);
    }
    if (fds[1].revents != 0) {
      uint64_t count;
      if (read(wakeup_.get(), &count, sizeof count) == sizeof count && !draining_) {
        may_end_ = true;
        begin_drain(now);
      }
    }
    bool changed = false;
    if (fds[2].revents != 0) changed |= directory_->on_readable(now);
    if (directory_) {
      if (const auto due = directory_->next_deadline(); due && *due <= now) changed |= directory_->tick(now);
    }
    if (fds[4].revents != 0) {
      changed |= api_->on_readable();
      daemon_set_seen_ |= store_.find(options_.daemon_set) != nullptr;
    }
    if (fds[5].revents != 0) on_handover(now);
    if (!begun_) {
      if (synced() && !draining_) begin(now);
    } else if (changed) {
      configure(now);
    }
    if (build_due_ && *build_due_ <= now) build(now);
    if (fds[3].revents != 0) {
      enrolment_->on_readable(now);
      status_stale_ = true;
    }
    if (now >= next_tick) {
      // While it drains, too: the network namespace of a pod that is gone is not to stay for as long as RPCs of others
      // run.
      enrolment_->tick(now);
      if (!draining_) check_hooks();
      if (begun_ && !foreign_pods_swept_ && now - *begun_ > kForeignRowsGrace) sweep_foreign_pods();
      next_tick = now + kTick;
      if (foreign_pods_swept_ && !draining_ && now >= verdicts_swept_ + kVerdictSweep) sweep_verdicts(now);
      status_stale_ = true;
    }
    status_stale_ |= survey_->step(now);
    if (status_stale_) publish();
    if (draining_ && drained(now) && may_end_) return;
  }
}

std::shared_ptr<const config::Snapshot> Node::build_snapshot() {
  const base::Instant started = base::MonotonicClock::now();
  auto built = translator_->build(store_, snapshot_.get());
  build_time_ = base::MonotonicClock::now() - started;
  return built;
}

// What has changed is in use at once; the findings, for which everything has to be looked at, follow as soon as that
// does not take too much of the thread's time: at once in a small cluster.
void Node::configure(base::Instant now) {
  if (const auto changes = store_.take_changes(); !changes.empty()) {
    auto next = translator_->update(store_, changes, *snapshot_);
    if (!next) return build(now);
    apply(std::move(next), snapshot_.get(), now);
  }
  const base::Instant due = built_ + kBuildPart * build_time_;
  if (now >= due) return build(now);
  build_due_ = due;
}

void Node::build(base::Instant now) {
  auto next = build_snapshot();
  log_new_findings(*next, snapshot_.get());
  if (api_) api_->tell(next->findings);
  apply(std::move(next), snapshot_.get(), now);
  built_ = now;
  build_due_.reset();
}

// `previous`: what the rows are in step with; null: nothing is known of them.
void Node::apply(std::shared_ptr<const config::Snapshot> next, const config::Snapshot* previous, base::Instant now) {
  if (!superseded_) service_rows_->remove_unwanted(*next, previous);
  std::vector<std::future<void>> applied;
  for (auto& worker : workers_) applied.push_back(worker->set_snapshot(next));
  for (auto& future : applied) {
    if (future.wait_for(kSnapshotPatience) != std::future_status::ready)
      warn("a worker has not taken configuration revision {} over within a second", next->revision);
  }
  if (!superseded_) service_rows_->add_wanted(*next, previous);
  snapshot_ = std::move(next);
  configured_ = now;
  enrolment_->want(snapshot_->pods, now);
  status_stale_ = true;
  base::log::debug("configuration revision {}: {} services, {} pods", snapshot_->revision, snapshot_->services.size(),
                   snapshot_->pods.size());
}

interception::PodWorker Node::enrolled(interception::EnrolledPod pod) {
  const auto least = std::min_element(pods_of_worker_.begin(), pods_of_worker_.end());
  const auto index = static_cast<uint32_t>(least - pods_of_worker_.begin());
  ++*least;
  worker_of_pod_[pod.pod->uid] = index;
  workers_[index]->add_source(std::move(pod));
  status_stale_ = true;
  return {index, heartbeat_of_worker_[index].slot()};
}

void Node::updated(std::shared_ptr<const config::Pod> pod) {
  const auto found = worker_of_pod_.find(pod->uid);
  if (found != worker_of_pod_.end()) workers_[found->second]->update_source(std::move(pod));
}

void Node::removed(const std::string& uid) {
  const auto found = worker_of_pod_.find(uid);
  if (found == worker_of_pod_.end()) return;
  workers_[found->second]->remove_source(uid);
  --pods_of_worker_[found->second];
  worker_of_pod_.erase(found);
  status_stale_ = true;
}

void Node::publish() {
  std::vector<interception::PodStatus> pods = enrolment_->status();
  // While this agent leaves, another one counts.
  const std::span<const interception::PodStatus> counted = draining_ ? std::span(pods).first(0) : std::span(pods);
  survey_->follow(counted, snapshot_, base::MonotonicClock::now());
  settled_ |= begun_ && (base::MonotonicClock::now() - *begun_ > kEnrolmentPatience ||
                         std::none_of(pods.begin(), pods.end(), [](const auto& pod) { return pod.is_unattended(); }));
  auto status = std::make_shared<NodeStatus>();
  status->begun = begun_.has_value();
  status->settled = settled_;
  status->hooks_problem = hooks_problem_;
  status->snapshot = snapshot_;
  status->configured = configured_;
  status->build_time = build_time_;
  status->pods = std::move(pods);
  survey_->fill_in(status->pods);
  status->unmanaged = survey_->counts();
  status->unmanaged_failures = survey_->failures();
  status->draining = draining_;
  status->superseded = superseded_;
  const std::lock_guard lock(status_mutex_);
  status_ = std::move(status);
  status_stale_ = false;
}

std::shared_ptr<const NodeStatus> Node::status() const {
  const std::lock_guard lock(status_mutex_);
  return status_;
}

}  // namespace weir::control
