// Source: one enrolled pod as its worker sees it: the listeners inside its network
// namespace, the pools of connections that are opened on its behalf, and its budget: what it may
// hold of an agent that all pods of the node share, and how much of a turn it may use.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "detection/classify.h"
#include "http2/intrusive_list.h"
#include "interception/enrolment.h"
#include "proxy/listener.h"
#include "proxy/pool.h"
#include "proxy/verdicts.h"

namespace weir::proxy {

struct Dialled;
class TakesTurns;
class Transport;

// What one pod may hold at a time. Beyond it, its own new connections, RPCs or largest connection are refused.
struct PodLimits {
  uint32_t max_connections = 10'000;  // opened by the pod, relayed ones included
  uint32_t max_streams = 20'000;      // RPCs under way
  uint64_t max_memory = 256u << 20;   // bytes that wait in the agent: bodies, header sections, framed output
};

// What a pod's work costs (Source::spend), in units of about what a frame takes: 0.4 us. Bytes are dear because
// they are moved twice by the kernel, and sends because they wake somebody.
namespace work {
constexpr uint64_t kReceive = 4, kSend = 12, kBytes = 256;  // an operation each, and so many bytes of either
constexpr uint64_t kAccept = 25;
constexpr uint64_t kDial = 40;                                // to pick an endpoint for a Dial and connect to it
constexpr uint64_t kWaiter = 2, kHeadBytes = 32;              // to go on with a request that waited; to encode its head
constexpr uint64_t kStreamEnd = 2;                            // to tell a stream that its connection is over
constexpr uint64_t kRelayedChunk = 12, kRelayedBytes = 1024;  // nobody reads these
constexpr uint64_t kSplicedBytes = 2048;
}  // namespace work

struct InTurn;  // has work left: a source in its worker, a transport or dial in its source

class Source : public http2::Hook<InTurn> {
 public:
  // Starts to accept at once.
  Source(Worker& worker, interception::EnrolledPod enrolled);
  ~Source();  // when no transport refers to it any more
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  const config::Pod& pod() const { return *enrolled_.pod; }
  const std::shared_ptr<const config::Pod>& shared_pod() const { return enrolled_.pod; }
  void update(std::shared_ptr<const config::Pod> pod);

  // A socket in the pod's namespace that the BPF programs leave alone, with keepalive as `settings` ask for it.
  base::Result<std::unique_ptr<io::Socket>> upstream_socket(const base::SocketAddress& to,
                                                            const config::ConnectionPool& settings);
  // The pool of `cluster`. Stays valid as long as the Source.
  ClusterPool& pool(const std::shared_ptr<const config::Cluster>& cluster);

  void snapshot_changed(const config::Snapshot& snapshot);
  // Accepts what is queued, then closes the listeners; connections go on.
  void stop_listening();
  // Lets go of endpoints that left and have nothing open any more.
  void sweep();

  // What a connection turned out to be, of those whose first bytes are looked at.
  void detected(const Dialled& dialled, detection::Verdict verdict);
  // Of a Service's port that learns: see Verdicts::sets_apart().
  bool sets_apart(const base::SocketAddress& vip, const std::string& service);

  // The budget. A refusal is counted in the worker's stats.
  bool may_connect();
  bool begin_stream();  // false: refused; end_stream() follows either way
  void end_stream() { --streams_; }
  // No more than these wait for their peer's FIN at a time.
  bool may_linger() const { return lingering_ < kMostLingering; }
  // Bytes that have to wait are copied from now on, or they would keep the receive buffers from other pods.
  bool must_copy() const;
  // For bytes that are relayed; null: they are copied instead. A pod may have a part of the worker's pipes at a time.
  std::unique_ptr<io::Pipe> take_pipe();
  void give_back(std::unique_ptr<io::Pipe> pipe);
  // Little waits as yet: bodies that the pod leaves unread need not hold up others on their connection.
  bool may_lend() const;
  int64_t memory() const { return memory_; }
  // A line in the agent's log about what the pod did wrong: one a second, which says how many were left out before it.
  void complain(const std::string& what);

  // The turn (deficit round-robin): what a pod does costs credit, of which each turn brings a quantum. Without
  // any left, what came waits for the next turn.
  bool may_work() {
    refill();
    return credit_ > 0;
  }
  // For what comes anew: what had to wait goes first.
  bool may_start_work() { return !behind_ && may_work(); }
  // For what an accept leads to at once: it may use up what the accept has left.
  bool may_follow_accept() {
    refill();
    return !behind_ && credit_ + static_cast<int64_t>(work::kAccept) > 0;
  }
  int64_t credit() const { return credit_; }
  void spend(uint64_t work) { credit_ -= static_cast<int64_t>(work); }
  // Calls its flush() at the end of a turn in which there is credit, once.
  void wait_for_turn(TakesTurns& work);

 private:
  friend class Worker;
  friend class Transport;
  static constexpr uint32_t kMostLingering = 64;
  static constexpr uint32_t kPipesPart = 4;  // of the worker's, the part that a pod may have
  void refill();

  Worker& worker_;
  interception::EnrolledPod enrolled_;
  std::unique_ptr<Listener> listener_v4_, listener_v6_;
  std::unordered_map<std::string, std::unique_ptr<ClusterPool>> pools_;  // by cluster name
  ClusterPool* last_pool_ = nullptr;  // the one that was asked for last: spares the look-up by name
  size_t transports_ = 0;
  uint32_t connections_ = 0;  // of transports_, those that the pod opened
  uint32_t streams_ = 0;
  uint32_t lingering_ = 0;
  uint32_t pipes_ = 0;
  int64_t memory_ = 0;  // the sum of what its transports hold
  int64_t credit_ = 0;
  uint64_t turn_ = 0;  // of the last refill
  http2::List<TakesTurns, InTurn> work_;
  bool behind_ = false;  // some of work_ is left from the turn before
  Verdicts verdicts_;
  base::Instant complains_from_{};
  uint64_t unsaid_ = 0;
};

}  // namespace weir::proxy
