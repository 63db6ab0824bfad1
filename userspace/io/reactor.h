// Reactor: one io_uring and the loop around it. Belongs to one thread; post() is
// the only function that others may call. A turn is: submit what was prepared and wait,
// complete what came, run the timers, run what was posted.
#pragma once

#include <liburing.h>
#include <sys/uio.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "io/receive_buffers.h"
#include "io/timer_wheel.h"

namespace weir::io {

// Something the kernel is asked to do, and told of. The object must live until its last
// completion (one without IORING_CQE_F_MORE), which pending() tells.
class Operation {
 public:
  virtual void completed(int32_t result, uint32_t cqe_flags) = 0;
  bool pending() const { return pending_ != 0; }

 protected:
  ~Operation() = default;

 private:
  friend class Reactor;
  uint32_t received_in_ = 0;  // the last turn (its low bits) in which it brought received bytes
  uint32_t pending_ : 1 = 0;
  uint32_t expected_at_ : 31 = 0;  // its place in Reactor::expected_, from 1; 0: a completion tells of its success
};

class Reactor {
 public:
  struct Options {
    uint32_t entries = 1024;              // of the submission queue
    uint32_t max_receive_buffers = 8192;  // of 16 KiB: 128 MiB
    // How long a busy loop waits for more to come before it goes on, so that many connections that
    // each say little share a turn; needs Linux 6.12. Zero: never. See lingers().
    base::Duration linger = std::chrono::microseconds(100);
  };
  // Must be made and used on the thread that runs it. Fails with the remedy where io_uring
  // is missing or forbidden.
  static base::Result<std::unique_ptr<Reactor>> create(const Options& options);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Prepares an operation; it is submitted with the next turn.
  io_uring_sqe* prepare(Operation& operation);
  // Of one that is prepared, and completes during submission whatever happens (a non-blocking send): unless the kernel
  // reports something else, its result is `expected`. It is told so when a turn ends for another reason.
  void expect(Operation& operation, io_uring_sqe& sqe, int32_t expected);
  // Asks the kernel to end a pending operation; it completes with -ECANCELED, or with its result.
  void cancel(Operation& operation);
  // iovecs that stay valid until the next turn has submitted them.
  msghdr* stage(std::span<const iovec> iovecs);

  // One turn. Returns after at most `max_wait` even if nothing happened.
  void turn(base::Duration max_wait);
  // Runs `task` on the reactor's thread, soon. Thread-safe.
  void post(std::function<void()> task);

  base::Instant now() const { return now_; }  // of this turn
  TimerWheel& timers() { return timers_; }
  ReceiveBuffers& buffers() { return *buffers_; }
  uint64_t turns() const { return turns_; }
  // The kernel has min_wait (6.12), and Options::linger is not zero.
  bool can_linger() const { return linger_ > base::Duration::zero(); }

 private:
  class Wakeup;
  static constexpr uint32_t kLingerFrom = 8;
  struct Staged {
    msghdr header;
    std::vector<iovec> iovecs;
  };
  Reactor() = default;
  // Whether the next turn lingers: the last one had bytes from many sockets, and no completion was left over.
  // A few busy connections never wait: it would add to their latency and gain nothing.
  bool lingers() const { return can_linger() && sockets_heard_ >= kLingerFrom; }
  void submit_and_wait(unsigned wanted, base::Duration wait, base::Duration linger);
  void settle_expected();
  // Of one that a completion tells of: what was expected of it is not so.
  void told(Operation& operation);
  void run_posted();

  io_uring ring_{};
  bool ring_open_ = false;
  base::Instant now_{};
  TimerWheel timers_;
  std::unique_ptr<ReceiveBuffers> buffers_;
  struct Expected {
    Operation* operation;  // null: told otherwise
    int32_t result;
  };
  std::vector<Expected> expected_, settling_;
  base::Duration linger_{};
  uint32_t sockets_heard_ = 0;  // in the last turn
  uint64_t turns_ = 0;
  std::vector<std::unique_ptr<Staged>> staged_;
  size_t staged_used_ = 0;

  base::Fd wakeup_fd_;
  std::unique_ptr<Wakeup> wakeup_;
  std::mutex posted_mutex_;
  std::atomic<bool> has_posted_{false};  // spares the lock in turns without a message
  std::vector<std::function<void()>> posted_;
  std::vector<std::function<void()>> running_;
};

}  // namespace weir::io
