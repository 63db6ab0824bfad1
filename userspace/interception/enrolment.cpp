#include "interception/enrolment.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <set>
#include <string_view>

#include "base/log.h"
#include "interception/cgroup_watcher.h"
#include "interception/loopback_listeners.h"
#include "interception/pod_processes.h"

namespace weir::interception {
namespace {

using base::Duration;
using base::Instant;
using config::Pod;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kFirstRetry = milliseconds(50);
constexpr Duration kLongestRetry = seconds(5);
// A pod whose processes are all gone may be restarting one in the same namespace.
constexpr Duration kEmptyGrace = milliseconds(250);
// A runtime puts a container's first process into the cgroup before it enters the pod's namespace, and the kernel tells
// nobody when it has; nor do v1 hierarchies tell when a process comes at all. So look again after 1/4 of the time
// waited so far, between these two, and once a second when that has gone on for long.
constexpr int kPatience = 4;
constexpr Duration kShortestWait = milliseconds(1);
constexpr Duration kLongestWait = milliseconds(10);
constexpr Duration kEager = seconds(60);
constexpr Duration kCalmWait = seconds(1);
// From here on a process in the node's namespace is one that stays there.
constexpr Duration kStarting = seconds(5);

Duration wait_after(Duration waited) {
  return waited > kEager ? kCalmWait : std::clamp<Duration>(waited / kPatience, kShortestWait, kLongestWait);
}

double milliseconds_of(Duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

// The kubelet names a static pod's cgroup by the hash of its manifest, not by the UID that the API shows.
const std::string& cgroup_uid(const Pod& pod) {
  auto hash = pod.annotations.find("kubernetes.io/config.hash");
  return hash == pod.annotations.end() || hash->second.empty() ? pod.uid : hash->second;
}

std::string key_of(const Pod& pod) { return pod.qualified_name() + "/" + pod.uid + "/" + cgroup_uid(pod); }

uint16_t starting_port(const Pod& pod, uint16_t lowest) {
  size_t range = static_cast<size_t>(UINT16_MAX) - lowest + 1;
  return static_cast<uint16_t>(lowest + std::hash<std::string>()(pod.uid) % range);
}

}  // namespace

class Enrolment::State {
 public:
  State(EnrolmentOptions options, PodRows rows, EnrolmentEvents& events)
      : options_(std::move(options)),
        rows_(std::move(rows), options_.generation),
        events_(events),
        watcher_(options_.cgroup_roots),
        processes_(options_.proc) {}

  base::Result<void> start();
  int fd() const { return poll_.get(); }
  void on_readable(Instant now);
  void want(std::span<const std::shared_ptr<const Pod>> pods, Instant now);
  void tick(Instant now);
  void claim();
  void withdraw();
  base::Result<void> sweep() { return rows_.sweep(); }
  std::vector<PodStatus> status() const;

 private:
  // A pod that is listened in, beyond what its worker holds.
  struct Enrolled {
    std::shared_ptr<const NetworkNamespace> netns;
    NamespaceId id;
    pid_t process = 0;  // known to be in the namespace
    uint16_t port = 0;
    bool v6 = false;
    PodWorker worker;
    Duration latency{};
    std::optional<Instant> empty_since;
    bool row_is_stale = false;
    weir_pod row_of(const Pod& pod) const { return make_row(pod, worker, port, v6); }
  };
  struct Entry {
    std::shared_ptr<const Pod> pod;
    bool eligible = false;  // may be enrolled, as far as its configuration says
    PodState state = PodState::waiting;
    std::string reason;
    std::set<std::string> warned;  // reasons logged already
    uint16_t next_port = 0;
    Duration backoff{};
    std::optional<Instant> next_look;
    std::optional<Instant> folder_seen, process_seen;
    std::optional<Instant> unfinished;  // when its namespace was last seen not to be ready
    std::optional<Enrolled> enrolled;
  };

  void apply(Entry& entry, const std::shared_ptr<const Pod>& pod, std::string obstacle, Instant now);
  void look(Entry& entry, Instant now);
  void look_for_namespace(Entry& entry, Instant now);
  void check_enrolled(Entry& entry, Instant now);
  void look_at_changes(Instant now);
  const Entry* owner_of(const NamespaceId& id) const;
  base::Result<Enrolled> enrol(Entry& entry, const std::vector<PodNamespace>& found);
  void update_row(Entry& entry);
  void check_row(Entry& entry);
  void remove(Entry& entry, std::string_view why);
  void set_state(Entry& entry, PodState state, std::string reason, std::optional<Instant> next_look);
  void fail(Entry& entry, std::string reason, Instant now);
  void arm_timer();

  EnrolmentOptions options_;
  OwnedRows rows_;
  EnrolmentEvents& events_;
  CgroupWatcher watcher_;
  PodProcessFinder processes_;
  base::Fd poll_, timer_;
  std::map<std::string, Entry> entries_;              // by key_of()
  std::map<std::string, std::string> by_cgroup_uid_;  // cgroup_uid() -> key, of eligible pods
  bool withdrawn_ = false;
};

base::Result<void> Enrolment::State::start() {
  auto watching = watcher_.start();
  if (!watching) return watching;
  timer_ = base::Fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer_) return base::system_error("make a timer", errno);
  poll_ = base::Fd(epoll_create1(EPOLL_CLOEXEC));
  for (int fd : {watcher_.fd(), timer_.get()}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::system_error("poll cgroup events", errno);
  }
  look_at_changes(base::MonotonicClock::now());
  return {};
}

void Enrolment::State::arm_timer() {
  std::optional<Instant> next;
  for (const auto& [key, entry] : entries_) {
    if (entry.next_look && (!next || *entry.next_look < *next)) next = entry.next_look;
  }
  itimerspec when{};
  if (next) {
    int64_t ns = std::max<int64_t>(1, next->time_since_epoch().count());  // zero would disarm it
    when.it_value.tv_sec = ns / 1'000'000'000;
    when.it_value.tv_nsec = ns % 1'000'000'000;
  }
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Enrolment::State::look_at_changes(Instant now) {
  for (const auto& uid : watcher_.read_changes()) {
    auto key = by_cgroup_uid_.find(uid);
    if (key != by_cgroup_uid_.end()) look(entries_.at(key->second), now);
  }
}

void Enrolment::State::on_readable(Instant now) {
  uint64_t expirations = 0;
  [[maybe_unused]] ssize_t drained = read(timer_.get(), &expirations, sizeof expirations);
  look_at_changes(now);
  for (auto& [key, entry] : entries_) {
    if (entry.next_look && *entry.next_look <= now) look(entry, now);
  }
  arm_timer();
}

void Enrolment::State::tick(Instant now) {
  if (watcher_.degraded()) watcher_.rescan();
  look_at_changes(now);
  for (auto& [key, entry] : entries_) {
    look(entry, now);
    if (entry.enrolled) check_row(entry);
  }
  arm_timer();
}

void Enrolment::State::want(std::span<const std::shared_ptr<const Pod>> pods, Instant now) {
  std::set<std::string> wanted;
  for (const auto& pod : pods) wanted.insert(key_of(*pod));
  // Those that go come first: a pod that takes another's place may have its namespace.
  for (auto it = entries_.begin(); it != entries_.end();) {
    if (wanted.contains(it->first)) {
      ++it;
      continue;
    }
    remove(it->second, "it is gone from the node");
    it = entries_.erase(it);
  }
  by_cgroup_uid_.clear();
  for (const auto& pod : pods) {
    std::string key = key_of(*pod);
    std::string obstacle;
    if (pod->dataplane != config::Dataplane::disabled && pod->refusal.empty()) {
      auto [other, is_first] = by_cgroup_uid_.emplace(cgroup_uid(*pod), key);
      if (cgroup_uid(*pod).empty()) {
        obstacle = "it has no metadata.uid, by which its cgroup is found";
      } else if (!is_first && other->second != key) {
        obstacle = "it has the metadata.uid of " + entries_.at(other->second).pod->qualified_name();
      }
    }
    apply(entries_[key], pod, std::move(obstacle), now);
  }
  arm_timer();
}

void Enrolment::State::apply(Entry& entry, const std::shared_ptr<const Pod>& pod, std::string obstacle, Instant now) {
  bool is_new = entry.pod == nullptr;
  bool is_same = entry.pod == pod;
  bool was_eligible = entry.eligible;
  entry.pod = pod;
  entry.eligible = pod->dataplane != config::Dataplane::disabled && pod->refusal.empty() && obstacle.empty();
  if (is_new) entry.next_port = starting_port(*pod, options_.first_port);
  if (entry.eligible && !was_eligible) {
    set_state(entry, PodState::waiting, "", std::nullopt);
    look(entry, now);
  } else if (entry.eligible) {
    if (is_same || !entry.enrolled) return;
    update_row(entry);
    events_.updated(pod);
  } else if (pod->dataplane == config::Dataplane::disabled) {
    remove(entry, "it is disabled");
    set_state(entry, PodState::disabled, "", std::nullopt);
  } else if (!pod->refusal.empty()) {
    remove(entry, pod->refusal);
    set_state(entry, PodState::refused, pod->refusal, std::nullopt);
  } else {
    remove(entry, obstacle);
    set_state(entry, PodState::failed, std::move(obstacle), std::nullopt);
  }
}

void Enrolment::State::look(Entry& entry, Instant now) {
  if (!entry.eligible) return;
  // A failed pod that keeps changing gets no more attempts than one that does not.
  if (entry.state == PodState::failed && entry.next_look && *entry.next_look > now) return;
  entry.next_look.reset();
  if (entry.enrolled) check_enrolled(entry, now);
  if (!entry.enrolled && !withdrawn_) look_for_namespace(entry, now);
}

void Enrolment::State::check_enrolled(Entry& entry, Instant now) {
  Enrolled& enrolled = *entry.enrolled;
  const auto& folders = watcher_.folders(cgroup_uid(*entry.pod));
  if (folders.empty()) return remove(entry, "its cgroup is gone");
  bool alive = processes_.is_in(enrolled.process, enrolled.id);
  if (!alive) {
    PodProcesses found = processes_.find(folders);
    for (const auto& other : found.namespaces) {
      if (other.id != enrolled.id) continue;
      enrolled.process = other.process;
      alive = true;
    }
    if (!alive && !found.namespaces.empty()) return remove(entry, "it has another network namespace");
  }
  if (alive) {
    enrolled.empty_since.reset();
    return;
  }
  if (!enrolled.empty_since) enrolled.empty_since = now;
  entry.next_look = *enrolled.empty_since + kEmptyGrace;
  if (*entry.next_look <= now) remove(entry, "its processes are gone");
}

void Enrolment::State::look_for_namespace(Entry& entry, Instant now) {
  const std::string& uid = cgroup_uid(*entry.pod);
  const auto& folders = watcher_.folders(uid);
  if (folders.empty()) {
    entry.folder_seen.reset();
    entry.process_seen.reset();
    entry.unfinished.reset();
    entry.backoff = {};
    return set_state(entry, PodState::waiting, "it has no cgroup folder yet", std::nullopt);
  }
  if (!entry.folder_seen) entry.folder_seen = now;
  PodProcesses found = processes_.find(folders);
  if (!found.any && found.unreadable != 0)
    return fail(entry, base::system_error("read its cgroup.procs", found.unreadable).message, now);
  if (!found.any) {
    entry.process_seen.reset();
    entry.unfinished.reset();
    std::optional<Instant> next;
    if (!watcher_.tells_processes(uid)) next = now + wait_after(now - *entry.folder_seen);
    return set_state(entry, PodState::waiting, "none of its processes has started yet", next);
  }
  if (!entry.process_seen) entry.process_seen = now;
  Duration waited = now - *entry.process_seen;
  Instant soon = now + wait_after(waited);

  const Entry* owner = nullptr;
  std::erase_if(found.namespaces, [&](const PodNamespace& n) {
    const Entry* other = owner_of(n.id);
    if (other) owner = other;
    return other != nullptr;
  });
  if (!found.namespaces.empty()) {
    auto enrolled = enrol(entry, found.namespaces);
    if (!enrolled && enrolled.error().code == ENETDOWN) {
      entry.unfinished = now;
      return set_state(entry, PodState::waiting, enrolled.error().message, soon);
    }
    if (!enrolled) return fail(entry, enrolled.error().message, now);
    entry.enrolled = std::move(enrolled.value());
    entry.backoff = {};
    entry.warned.clear();
    return set_state(entry, PodState::enrolled, "", std::nullopt);
  }
  if (owner) return fail(entry, "its network namespace is that of " + owner->pod->qualified_name(), now);
  if (found.vanished) {
    return set_state(entry, PodState::waiting, "its processes end as soon as they start", soon);
  }
  if (found.hidden && !found.in_node_namespace) {
    return fail(entry, "its processes are not visible: the agent needs the node's PID namespace (hostPID)", now);
  }
  if (waited < kStarting) {
    entry.unfinished = now;
    return set_state(entry, PodState::waiting, "its processes have not entered its network namespace yet", soon);
  }
  set_state(entry, PodState::refused, "its processes are in the node's network namespace (hostNetwork)", soon);
}

const Enrolment::State::Entry* Enrolment::State::owner_of(const NamespaceId& id) const {
  for (const auto& [key, entry] : entries_) {
    if (entry.enrolled && entry.enrolled->id == id) return &entry;
  }
  return nullptr;
}

base::Result<Enrolment::State::Enrolled> Enrolment::State::enrol(Entry& entry, const std::vector<PodNamespace>& found) {
  const Pod& pod = *entry.pod;
  Enrolled enrolled;
  auto chosen = choose_namespace(found, pod.ips);
  if (!chosen) return chosen.error();
  enrolled.netns = std::make_shared<const NetworkNamespace>(std::move(chosen->netns));
  enrolled.id = chosen->id;
  enrolled.process = chosen->process;

  auto listeners = open_loopback_listeners(*enrolled.netns, entry.next_port, options_.first_port);
  if (!listeners) {
    if (listeners.error().code == EADDRINUSE) {
      int range = UINT16_MAX - options_.first_port + 1;
      int next = (entry.next_port - options_.first_port + kPortsPerAttempt) % range;
      entry.next_port = static_cast<uint16_t>(options_.first_port + next);
    }
    return listeners.error();
  }
  for (const base::Fd* listener : {&listeners->v4, &listeners->v6}) {
    if (!*listener) continue;
    if (auto marked = rows_.mark(listener->get()); !marked) return marked.error();
  }
  enrolled.port = listeners->port;
  enrolled.v6 = static_cast<bool>(listeners->v6);
  enrolled.worker = events_.enrolled(
      {entry.pod, enrolled.netns, listeners->port, std::move(listeners->v4), std::move(listeners->v6)});
  // Only now, that connections are taken, may they be sent here.
  if (auto written = rows_.take(enrolled.netns->cookie(), enrolled.row_of(pod)); !written) {
    events_.removed(pod.uid);
    return written.error();
  }
  const Instant done = base::MonotonicClock::now();
  enrolled.latency = std::max(Duration(0), done - *entry.process_seen);
  base::log::info(
      "pod {}: {} network namespace {} at port {} (worker {}), {:.1f} ms after its first process, of which its "
      "namespace "
      "was ready for {:.1f} ms at most",
      pod.qualified_name(), pod.dataplane == config::Dataplane::observe ? "observing" : "listening in",
      enrolled.netns->cookie(), enrolled.port, enrolled.worker.index, milliseconds_of(enrolled.latency),
      milliseconds_of(done - entry.unfinished.value_or(*entry.process_seen)));
  if (pod.excluded_ports.size() > WEIR_MAX_EXCLUDED_PORTS) {
    base::log::warn("pod {}: {} excluded ports, only the first {} are excluded", pod.qualified_name(),
                    pod.excluded_ports.size(), WEIR_MAX_EXCLUDED_PORTS);
  }
  return enrolled;
}

void Enrolment::State::update_row(Entry& entry) {
  if (withdrawn_) return;
  Enrolled& enrolled = *entry.enrolled;
  auto written = rows_.update(enrolled.netns->cookie(), enrolled.row_of(*entry.pod));
  enrolled.row_is_stale = !written.ok();
  if (!written) base::log::warn("pod {}: {}", entry.pod->qualified_name(), written.error().message);
}

void Enrolment::State::check_row(Entry& entry) {
  if (withdrawn_) return;
  auto exists = rows_.exists(entry.enrolled->netns->cookie());
  if (exists && !*exists) base::log::warn("pod {}: its row was missing from the pods map", entry.pod->qualified_name());
  if (!exists || !*exists || entry.enrolled->row_is_stale) update_row(entry);
}

void Enrolment::State::remove(Entry& entry, std::string_view why) {
  if (!entry.enrolled) return;
  const std::string name = entry.pod->qualified_name();
  // The row goes first: nothing may be sent to a listener that is about to close.
  if (auto removed = rows_.remove(entry.enrolled->netns->cookie()); !removed) {
    base::log::warn("pod {}: {}", name, removed.error().message);
  }
  events_.removed(entry.pod->uid);
  base::log::info("pod {}: no longer listened in: {}", name, why);
  entry.enrolled.reset();
  entry.folder_seen.reset();
  entry.process_seen.reset();
  entry.unfinished.reset();
  set_state(entry, PodState::waiting, std::string(why), std::nullopt);
}

void Enrolment::State::set_state(Entry& entry, PodState state, std::string reason, std::optional<Instant> next_look) {
  entry.state = state;
  entry.reason = std::move(reason);
  entry.next_look = next_look;
  bool is_trouble = state == PodState::failed || state == PodState::refused;
  if (is_trouble && entry.warned.insert(entry.reason).second) {
    base::log::warn("pod {}: not enrolled: {}", entry.pod->qualified_name(), entry.reason);
  }
}

void Enrolment::State::fail(Entry& entry, std::string reason, Instant now) {
  entry.backoff = std::clamp(entry.backoff * 2, kFirstRetry, kLongestRetry);
  set_state(entry, PodState::failed, std::move(reason), now + entry.backoff);
}

void Enrolment::State::claim() {
  for (auto& [key, entry] : entries_) {
    if (!entry.enrolled) continue;
    auto written = rows_.take(entry.enrolled->netns->cookie(), entry.enrolled->row_of(*entry.pod));
    entry.enrolled->row_is_stale = !written.ok();
    if (!written) base::log::warn("pod {}: {}", entry.pod->qualified_name(), written.error().message);
  }
}

void Enrolment::State::withdraw() {
  withdrawn_ = true;
  for (auto& [key, entry] : entries_) {
    if (!entry.enrolled) continue;
    entry.reason = "withdrawn: the agent is leaving";
    if (auto removed = rows_.withdraw(entry.enrolled->netns->cookie()); !removed) {
      base::log::warn("pod {}: {}", entry.pod->qualified_name(), removed.error().message);
    }
  }
}

std::vector<PodStatus> Enrolment::State::status() const {
  std::vector<PodStatus> out;
  for (const auto& [key, entry] : entries_) {
    PodStatus& status = out.emplace_back();
    status.pod = entry.pod;
    status.state = entry.state;
    status.reason = entry.reason;
    status.runs = entry.process_seen.has_value();
    if (!entry.enrolled) continue;
    status.netns_cookie = entry.enrolled->netns->cookie();
    status.port = entry.enrolled->port;
    status.worker = entry.enrolled->worker.index;
    status.latency = entry.enrolled->latency;
    status.netns = entry.enrolled->netns;
  }
  return out;
}

Enrolment::Enrolment(EnrolmentOptions options, Maps& maps, EnrolmentEvents& events)
    : Enrolment(std::move(options), PodRows::of(maps), events) {}
Enrolment::Enrolment(EnrolmentOptions options, PodRows rows, EnrolmentEvents& events)
    : state_(std::make_unique<State>(std::move(options), std::move(rows), events)) {}
Enrolment::~Enrolment() = default;

base::Result<void> Enrolment::start() { return state_->start(); }
int Enrolment::fd() const { return state_->fd(); }
void Enrolment::on_readable(Instant now) { state_->on_readable(now); }
void Enrolment::want(std::span<const std::shared_ptr<const Pod>> pods, Instant now) { state_->want(pods, now); }
void Enrolment::tick(Instant now) { state_->tick(now); }
void Enrolment::claim() { state_->claim(); }
void Enrolment::withdraw() { state_->withdraw(); }
base::Result<void> Enrolment::sweep() { return state_->sweep(); }
std::vector<PodStatus> Enrolment::status() const { return state_->status(); }

}  // namespace weir::interception
