// Worker: a thread with a reactor, and the pods that belong to it. It shares nothing
// with other workers; other threads talk to it by messages (the thread-safe functions below). Its thread is in the
// network namespace of any of its pods (Source::upstream_socket), so nothing else on it may open sockets or start
// threads.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <list>
#include <memory>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "config/snapshot.h"
#include "http2/connection.h"
#include "interception/enrolment.h"
#include "io/error_watch.h"
#include "io/pipe.h"
#include "io/reactor.h"
#include "proxy/exchange.h"
#include "proxy/redirected.h"
#include "proxy/slab.h"
#include "proxy/source.h"
#include "proxy/transport.h"
#include "proxy/verdicts.h"
#include "proxy/worker_stats.h"
#include "telemetry/recorder.h"

namespace weir::proxy {

// What BPF knows of an accepted connection.
struct Diverted {
  base::SocketAddress destination;  // VIP:port that the application dialled
  config::Mode mode = config::Mode::l7;
};

struct WorkerOptions {
  uint32_t index = 0;
  http2::Limits limits;
  // How long a client may be silent, or in the middle of a preface, before it is relayed as TCP.
  base::Duration detection_timeout = std::chrono::seconds(5);
  // How long a peer may take for the bytes that wait for its socket at some moment.
  base::Duration send_timeout = std::chrono::seconds(30);
  // How long nothing may move on an RPC, in either direction (Envoy's stream_idle_timeout); 0: for ever.
  base::Duration stream_idle_timeout{0};
  // Bytes of request bodies that this worker keeps to send them again.
  size_t replay_memory = 64 << 20;
  PodLimits pod_limits;
  LearningOptions learning;
  Verdicts::Rows verdicts;
  // Bytes that may wait in this worker for all its pods together; 0: any number.
  uint64_t max_memory = 0;
  io::Reactor::Options reactor;
  // Sockets that this worker may have open for all its pods together, in both directions; 0: any number.
  uint64_t max_sockets = 0;
  // Pipes (io::Pipes), each of two descriptors.
  uint32_t max_pipes = 64;
  // Tells others that the loop turns; may be empty. Called by the worker, every 250 ms.
  std::function<void(base::Instant now)> heartbeat;
  // Marks a socket so that the BPF programs leave it alone. Called by the worker.
  std::function<base::Result<void>(int fd)> mark_upstream;
  // Where an accepted connection was going; nullopt if it was not diverted. Called by the worker.
  std::function<std::optional<Diverted>(int fd)> original_destination;
  // Of an accepted connection that began with the HTTP/2 preface: whom to tell what has been read, if its bytes go past
  // TCP; otherwise empty. Called by the worker. Empty itself: no connection's do.
  std::function<ReportRead(int fd)> redirected;
  // Of an accepted connection that is relayed, which nothing bounds past TCP: what is sent on it stays on TCP. Whether
  // its socket is in a sockmap. Called by the worker; may be empty.
  std::function<bool(int fd)> keep_on_tcp;
};

// A Snapshot in use on this worker: exchanges keep the one they began with. Counted by a
// plain integer, so that no counter travels between cores.
class SnapshotUse {
 public:
  explicit SnapshotUse(std::shared_ptr<const config::Snapshot> snapshot) : snapshot_(std::move(snapshot)) {}
  const config::Snapshot& snapshot() const { return *snapshot_; }
  void release() { --users_; }

 private:
  friend class Worker;
  std::shared_ptr<const config::Snapshot> snapshot_;
  uint32_t users_ = 0;
};

class Worker {
 public:
  // Starts the thread. `recorder` outlives the worker.
  static base::Result<std::unique_ptr<Worker>> start(WorkerOptions options, telemetry::Recorder& recorder,
                                                     std::shared_ptr<const config::Snapshot> snapshot);
  ~Worker();  // stops and joins

  // Thread-safe; carried out by the worker soon, in the order given.
  // Ready when new requests go by the new Snapshot.
  std::future<void> set_snapshot(std::shared_ptr<const config::Snapshot> snapshot);
  void add_source(interception::EnrolledPod pod);
  void update_source(std::shared_ptr<const config::Pod> pod);
  void remove_source(std::string uid);
  // Stops accepting, sends GOAWAY, lets streams finish. drained() turns true when no client is left.
  void drain();
  // Ends what is left after drain(): RPCs get status 14.
  void abort_all();
  bool drained() const { return drained_.load(std::memory_order_acquire); }
  const WorkerStats& stats() const { return stats_; }

  // The rest is for the worker's own thread.
  // Null if there is none.
  Source* source(const std::string& uid);
  const WorkerOptions& options() const { return options_; }
  io::Reactor& reactor() { return *reactor_; }
  WorkerStats& stats() { return stats_; }
  telemetry::Recorder& recorder() { return recorder_; }
  ListenerSet& listeners() { return listeners_; }
  io::ErrorWatch& error_watch() { return error_watch_; }
  io::Pipes& pipes() { return pipes_; }
  Slab<Exchange>& exchanges() { return exchanges_; }
  size_t& replay_bytes() { return replay_bytes_; }  // which all exchanges keep now
  const config::Snapshot& snapshot() const { return snapshots_.back().snapshot(); }
  SnapshotUse& use_snapshot();
  bool draining() const { return draining_; }
  // Bytes that have to wait are copied from now on: if bodies that wait for a window held all buffers,
  // the WINDOW_UPDATE could not be received.
  bool buffers_scarce() const { return reactor_->buffers().held() > options_.reactor.max_receive_buffers / 2; }
  uint64_t random_seed();
  uint64_t random();
  // What a source may do in this turn: little, if others had something to do lately.
  int64_t quantum(const Source& source);
  // A source has work left: it goes on at the end of the turn.
  void has_work(Source& source);
  // Counts what a source has to hold, or no longer. Too much: the largest connections go at the end of the turn.
  void hold(Source& source, int64_t bytes);
  bool may_lend() const { return options_.max_memory == 0 || memory_ <= static_cast<int64_t>(options_.max_memory / 2); }
  // Whether a source may have one more socket; a refusal is counted.
  bool may_open(const Source& source, Transport::Opened by);
  // Streams that end now do so because their pod holds too much memory.
  bool shedding() const { return shedding_; }

  // `peer`: as accept() gave it. The socket has TCP_NODELAY from its listener.
  void accepted(Source& source, base::Fd socket, const base::SocketAddress& peer);
  void adopt(std::unique_ptr<Transport> transport);

 private:
  friend class Transport;
  template <class T>
  void start(std::unique_ptr<T> transport);
  Worker(WorkerOptions options, telemetry::Recorder& recorder, std::shared_ptr<const config::Snapshot> snapshot);
  void run();
  void tick(base::Instant now);
  void beat(base::Instant now);
  void flush();
  void remove(Transport& transport);
  void end_source(Source& source);
  void shed();
  bool over_budget(int64_t bytes) const;
  template <class Held, class Of>
  void shed_largest(const Held& held, int64_t limit, const Of& of, Counter& counter);
  void give_memory_back();

  WorkerOptions options_;
  telemetry::Recorder& recorder_;
  WorkerStats stats_;
  std::list<SnapshotUse> snapshots_;  // the last is current, the others are still used
  Slab<Exchange> exchanges_;
  size_t replay_bytes_ = 0;
  std::unique_ptr<io::Reactor> reactor_;
  ListenerSet listeners_{*this};
  io::ErrorWatch error_watch_;
  io::Pipes pipes_;
  io::MemberTimer<Worker, &Worker::beat> heartbeat_{*this};
  std::unordered_map<std::string, std::unique_ptr<Source>> sources_;  // by pod UID
  std::vector<std::unique_ptr<Source>> removed_sources_;              // until their last transport is gone
  std::vector<std::unique_ptr<Transport>> transports_;
  http2::List<Source, InTurn> busy_;  // have transports to flush
  std::vector<Source*> over_memory_;
  int64_t memory_ = 0;  // that all sources hold
  const Source* last_active_ = nullptr;
  base::Instant shared_until_{};  // others than last_active_ were active shortly before
  bool shedding_ = false;
  size_t busiest_ = 0;         // transports and exchanges, since the last tick
  size_t peak_load_ = 0;       // the same, since the allocator was asked to give memory back
  int quiet_looks_ = 0;        // ticks in a row with far less than that
  bool rest_follows_ = false;  // it was asked while the lists of free objects still gave some up
  uint64_t seed_ = 0;
  bool draining_ = false;
  bool stopping_ = false;
  std::atomic<bool> drained_{false};
  std::thread thread_;
};

}  // namespace weir::proxy
