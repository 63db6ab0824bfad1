// Enrolment keeps the set of pods that are listened in equal to the set that is
// wanted: it finds a pod's network namespace through its cgroup (watched by
// inotify, never polled), opens the pod's loopback listeners inside it, hands them
// to a worker, and only then lets the BPF programs divert (the pod's row in `pods`).
// Runs on the control thread.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "config/snapshot.h"
#include "interception/maps.h"
#include "interception/network_namespace.h"
#include "interception/pod_rows.h"

namespace weir::interception {

// A pod that is being listened in.
struct EnrolledPod {
  std::shared_ptr<const config::Pod> pod;
  std::shared_ptr<const NetworkNamespace> netns;
  uint16_t port = 0;     // of the listeners
  base::Fd listener_v4;  // 127.0.0.1:port, listening, marked, not accepting yet
  base::Fd listener_v6;  // [::1]:port; empty where the pod has no ::1
};

enum class PodState : uint8_t {
  waiting,   // wanted, its network namespace has not appeared yet
  enrolled,  // diverting (or observing)
  refused,   // must not be enrolled: reason says why
  failed,    // an attempt failed and will be made again: reason says why
  disabled,  // not asked for
};

struct PodStatus {
  std::shared_ptr<const config::Pod> pod;
  PodState state = PodState::waiting;
  std::string reason;
  uint64_t netns_cookie = 0;
  uint16_t port = 0;
  uint32_t worker = 0;
  base::Duration latency{};                       // from the sandbox process seen to the listener open
  std::shared_ptr<const NetworkNamespace> netns;  // of an enrolled pod
  uint64_t unmanaged_connections = 0;             // as last counted (UnmanagedSurvey); not Enrolment's
  bool runs = false;                              // it has processes

  // It is to be listened in, and its connections go the plain way meanwhile.
  bool is_unattended() const { return runs && (state == PodState::waiting || state == PodState::failed); }
};

// What the owner does when pods come and go; called on the control thread, from within Enrolment's functions.
class EnrolmentEvents {
 public:
  virtual ~EnrolmentEvents() = default;
  // Take the listeners; returns the worker that has them. Accepting must begin at once.
  virtual PodWorker enrolled(EnrolledPod pod) = 0;
  // The pod's labels or annotations changed while it stays enrolled.
  virtual void updated(std::shared_ptr<const config::Pod> pod) = 0;
  // Stop accepting, end its connections, give back its sockets.
  virtual void removed(const std::string& uid) = 0;
};

struct EnrolmentOptions {
  // Folders below which pods' cgroups appear (.../kubepods or .../kubepods.slice). More than one on hybrid hosts.
  std::vector<std::string> cgroup_roots;
  std::string proc = "/proc";
  uint64_t generation = 0;  // of this agent: its listeners' mark and its rows' owner
  uint16_t first_port = 61000;
};

// Must not be called from within EnrolmentEvents.
class Enrolment {
 public:
  // Both outlive the Enrolment.
  Enrolment(EnrolmentOptions options, Maps& maps, EnrolmentEvents& events);
  Enrolment(EnrolmentOptions options, PodRows rows, EnrolmentEvents& events);
  // Leaves its rows in `pods`, for an agent that takes over; withdraw() comes first otherwise.
  ~Enrolment();

  // Begins watching. Fails if no root can be watched and none can appear.
  base::Result<void> start();
  // Polls readable when pods changed or a retry is due (inotify and a timer behind one descriptor); call
  // on_readable() then. Valid after start().
  int fd() const;
  void on_readable(base::Instant now);
  // The pods of this node (Snapshot::pods). Enrols, refuses and removes accordingly.
  void want(std::span<const std::shared_ptr<const config::Pod>> pods, base::Instant now);
  // Retries failures with backoff, notices namespaces that died; call at least once a second, also after withdraw().
  void tick(base::Instant now);
  // Writes the rows of all pods that are enrolled once more, whoever's stand there: for an agent that has just taken
  // over from another.
  void claim();
  // Takes every row of this agent out of `pods`, so that no connect() is diverted any more. Nothing is enrolled
  // from then on; the listeners stay with their workers until their pods go or are no longer wanted.
  void withdraw();
  // Takes rows of other agents out of `pods`, except for pods enrolled now. For an agent that knows to be the only one
  // alive: otherwise the row of a pod that was fail-closed, and is no longer wanted, would refuse its connections for
  // ever.
  base::Result<void> sweep();

  std::vector<PodStatus> status() const;

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace weir::interception
