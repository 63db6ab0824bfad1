#include "io/reactor.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <stdexcept>

namespace weir::io {
namespace {

constexpr uint32_t kCompletionsPerTurn = 512;  // then sends and timers get their turn
// How many completions end a lingering wait at once.
constexpr uint32_t kLingerBatch = 256;

// Linux 6.12's form of the argument of io_uring_enter, which liburing 2.3 does not know.
struct WaitArgument {
  uint64_t sigmask = 0;
  uint32_t sigmask_size = 0;
  uint32_t min_wait_us = 0;
  uint64_t timeout = 0;
};
static_assert(sizeof(WaitArgument) == sizeof(io_uring_getevents_arg));
constexpr uint32_t kFeatureMinWait = 1u << 15;  // IORING_FEAT_MIN_TIMEOUT

base::Error ring_error(int code) {
  base::Error error = base::system_error("io_uring_setup", code);
  if (code == EPERM || code == EACCES) {
    error.message +=
        ": io_uring is forbidden here; set the sysctl kernel.io_uring_disabled to 0 and use a seccomp profile "
        "that allows io_uring_setup, io_uring_enter and io_uring_register";
  } else if (code == EINVAL || code == ENOSYS) {
    error.message += ": weir needs Linux 6.1 or newer with io_uring";
  } else if (code == ENOMEM) {
    error.message += ": raise the limit of locked memory (ulimit -l)";
  }
  return error;
}

}  // namespace

// Turns a write to the eventfd into a completion.
class Reactor::Wakeup final : public Operation {
 public:
  explicit Wakeup(Reactor& reactor) : reactor_(reactor) { arm(); }
  void completed(int32_t, uint32_t cqe_flags) override {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(reactor_.wakeup_fd_.get(), &count, sizeof count);
    if (!(cqe_flags & IORING_CQE_F_MORE)) arm();
  }

 private:
  void arm() { io_uring_prep_poll_multishot(reactor_.prepare(*this), reactor_.wakeup_fd_.get(), POLLIN); }
  Reactor& reactor_;
};

base::Result<std::unique_ptr<Reactor>> Reactor::create(const Options& options) {
  std::unique_ptr<Reactor> reactor(new Reactor);
  io_uring_params parameters{};
  parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                     IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL;
  parameters.cq_entries = options.entries * 8;
  if (const int error = io_uring_queue_init_params(options.entries, &reactor->ring_, &parameters); error != 0)
    return ring_error(-error);
  reactor->ring_open_ = true;
  if (parameters.features & kFeatureMinWait) reactor->linger_ = options.linger;
  io_uring_ring_dontfork(&reactor->ring_);
  try {
    reactor->buffers_ = std::make_unique<ReceiveBuffers>(reactor->ring_, options.max_receive_buffers);
  } catch (const std::runtime_error& error) {
    return base::Error{error.what()};
  }
  reactor->wakeup_fd_ = base::Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!reactor->wakeup_fd_) return base::system_error("eventfd", errno);
  reactor->wakeup_ = std::make_unique<Wakeup>(*reactor);
  reactor->now_ = base::MonotonicClock::now();
  reactor->timers_.start(reactor->now_);
  return reactor;
}

Reactor::~Reactor() {
  buffers_.reset();
  if (ring_open_) io_uring_queue_exit(&ring_);
}

io_uring_sqe* Reactor::prepare(Operation& operation) {
  assert(!operation.pending());
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {  // the queue is full: let the kernel take it
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  operation.pending_ = 1;
  // The prep functions of liburing leave user_data alone in 2.3; set_data survives them.
  io_uring_sqe_set_data(sqe, &operation);
  return sqe;
}

void Reactor::expect(Operation& operation, io_uring_sqe& sqe, int32_t expected) {
  sqe.flags |= IOSQE_CQE_SKIP_SUCCESS;
  expected_.push_back({&operation, expected});
  operation.expected_at_ = expected_.size() & 0x7fffffff;
}

void Reactor::cancel(Operation& operation) {
  if (!operation.pending()) return;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  while (!sqe) {
    io_uring_submit(&ring_);
    sqe = io_uring_get_sqe(&ring_);
  }
  io_uring_prep_cancel(sqe, &operation, 0);
  io_uring_sqe_set_data(sqe, nullptr);
}

msghdr* Reactor::stage(std::span<const iovec> iovecs) {
  if (staged_used_ == staged_.size()) staged_.push_back(std::make_unique<Staged>());
  Staged& staged = *staged_[staged_used_++];
  staged.iovecs.assign(iovecs.begin(), iovecs.end());
  staged.header = {};
  staged.header.msg_iov = staged.iovecs.data();
  staged.header.msg_iovlen = staged.iovecs.size();
  return &staged.header;
}

void Reactor::turn(base::Duration max_wait) {
  ++turns_;
  const base::Duration until_timer = timers_.next_expiry(base::MonotonicClock::now());
  const base::Duration wait = std::max(base::Duration(0), std::min(max_wait, until_timer));
  const bool linger = lingers() && wait >= linger_;
  submit_and_wait(linger ? kLingerBatch : 1, wait, linger ? linger_ : base::Duration::zero());
  sockets_heard_ = 0;
  staged_used_ = 0;
  now_ = base::MonotonicClock::now();

  settle_expected();
  io_uring_cqe* cqe;
  unsigned head;
  uint32_t seen = 0;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe));
    ++seen;
    if (operation) {
      // One that filled its buffer has more to say at once.
      if ((cqe->flags & IORING_CQE_F_BUFFER) && cqe->res < static_cast<int32_t>(ReceiveBuffers::kBufferSize) &&
          operation->received_in_ != static_cast<uint32_t>(turns_)) {
        operation->received_in_ = static_cast<uint32_t>(turns_);
        ++sockets_heard_;
      }
      // It was submitted by this loop, whose work filled the queue.
      told(*operation);
      operation->pending_ = (cqe->flags & IORING_CQE_F_MORE) != 0;
      operation->completed(cqe->res, cqe->flags);
    }
    if (seen == kCompletionsPerTurn) {
      sockets_heard_ = 0;
      break;
    }
  }
  io_uring_cq_advance(&ring_, seen);
  buffers_->restock();
  timers_.advance(now_);
  run_posted();
}

// With `linger`, returns after it if anything has come, and before it only for `wanted` completions.
void Reactor::submit_and_wait(unsigned wanted, base::Duration wait, base::Duration linger) {
  if (wait == base::Duration::zero()) {  // a timeout of nothing would start a timer and sleep until it fires
    io_uring_submit_and_get_events(&ring_);
    return;
  }
  __kernel_timespec timeout{wait.count() / 1'000'000'000, wait.count() % 1'000'000'000};
  io_uring_cqe* first = nullptr;
  if (linger == base::Duration::zero()) {
    io_uring_submit_and_wait_timeout(&ring_, &first, wanted, &timeout, nullptr);
    return;
  }
  io_uring_sq& queue = ring_.sq;
  unsigned tail = *queue.ktail;
  for (; queue.sqe_head != queue.sqe_tail; ++queue.sqe_head, ++tail)
    queue.array[tail & queue.ring_mask] = queue.sqe_head & queue.ring_mask;
  io_uring_smp_store_release(queue.ktail, tail);
  // With what the kernel left of an earlier turn.
  const unsigned prepared = tail - io_uring_smp_load_acquire(queue.khead);
  WaitArgument argument;
  argument.min_wait_us = static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(linger).count());
  argument.timeout = reinterpret_cast<uintptr_t>(&timeout);
  io_uring_enter2(static_cast<unsigned>(ring_.ring_fd), prepared, wanted, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                  reinterpret_cast<sigset_t*>(&argument), sizeof argument);
}

// What did not go as expected has a completion, posted during submission, which tells of it in the loop that follows.
void Reactor::settle_expected() {
  if (expected_.empty()) return;
  io_uring_cqe* cqe;
  unsigned head;
  io_uring_for_each_cqe(&ring_, head, cqe) {
    if (auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe))) told(*operation);
  }
  // The kernel may have taken only some, or have had no room to say what went wrong.
  const bool all_told =
      io_uring_sq_ready(&ring_) == 0 && (IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW) == 0;
  settling_.swap(expected_);
  for (const auto& [operation, result] : settling_) {
    if (!operation) continue;
    if (!all_told) {
      expected_.push_back({operation, result});
      operation->expected_at_ = expected_.size() & 0x7fffffff;
      continue;
    }
    operation->expected_at_ = operation->pending_ = 0;
    operation->completed(result, 0);
  }
  settling_.clear();
}

void Reactor::told(Operation& operation) {
  if (operation.expected_at_ == 0) return;
  expected_[operation.expected_at_ - 1].operation = nullptr;
  operation.expected_at_ = 0;
}

void Reactor::post(std::function<void()> task) {
  // The task may end the reactor: it can't be taken before this is done with it.
  const std::lock_guard lock(posted_mutex_);
  posted_.push_back(std::move(task));
  has_posted_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wakeup_fd_.get(), &one, sizeof one);
}

void Reactor::run_posted() {
  if (!has_posted_.load(std::memory_order_acquire)) return;
  {
    const std::lock_guard lock(posted_mutex_);
    running_.swap(posted_);
    has_posted_.store(false, std::memory_order_relaxed);
  }
  for (auto& task : running_) task();
  running_.clear();
}

}  // namespace weir::io
