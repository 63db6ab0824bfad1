// Accepting what BPF diverted to the pods' loopback listeners. The listeners wait in an
// epoll set, and only the set is polled through io_uring: a request of io_uring holds its file until
// the ring is torn down, which happens some time after the process is gone, and a listener that
// outlives its agent takes connections which nobody serves. This way kill -9 closes it at once.
#pragma once

#include "base/fd.h"
#include "base/result.h"
#include "io/reactor.h"

namespace weir::proxy {

// Makes the closing of `accepted`, which follows, a reset. At once and before any SETTINGS, it makes clients
// count a failed connect and back off, where a GOAWAY after SETTINGS would have them come back without a
// pause; and no TIME_WAIT stays in the pod.
void refuse(const base::Fd& accepted);

class Listener;
class Source;
class Worker;

// The listeners of one worker.
class ListenerSet final : private io::Operation {
 public:
  explicit ListenerSet(Worker& worker) : worker_(worker) {}
  // Starts to wait; before any Listener is made.
  base::Result<void> start();

 private:
  friend class Listener;
  void completed(int32_t result, uint32_t cqe_flags) override;
  void arm();

  // Out of descriptors, one who waits is let in by the spare one and closed: that is told at once instead of
  // hanging in a queue. False if nobody could be.
  bool refuse_one(int listening);
  // Takes another if it was lost: a thread of others may have had its number while it was lent.
  bool take_spare();

  Worker& worker_;
  base::Fd epoll_;
  base::Fd spare_;  // holds a number for refuse_one()
};

// One listening socket of one pod.
class Listener {
 public:
  Listener(Worker& worker, Source& source, base::Fd listening);
  // Takes what waits in the accept queue, then closes: closing first would reset who is in it. The BPF row
  // must be gone before.
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

 private:
  friend class ListenerSet;
  // One of those in the accept queue; false: errno says why not.
  bool accept_one();
  void accept_waiting();
  // Out of memory or descriptors: who waits stays in the queue until some are back.
  void pause();
  // False: the kernel has no room for it in the set.
  bool wait_for_more();
  void retry(base::Instant now);

  Worker& worker_;
  Source& source_;
  base::Fd fd_;
  int at_once_ = 1;         // so many are probably waiting when it is ready
  uint64_t last_turn_ = 0;  // in which some were accepted
  bool told_ = false;       // that it can't wait
  io::MemberTimer<Listener, &Listener::retry> retry_{*this};
};

}  // namespace weir::proxy
