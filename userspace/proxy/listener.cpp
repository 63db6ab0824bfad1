#include "proxy/listener.h"

#include <sys/socket.h>

#include <cassert>
#include <cerrno>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
constexpr auto kRetry = std::chrono::milliseconds(20);
}

Listener::Listener(Worker& worker, Source& source, base::Fd listening)
    : worker_(worker), source_(source), fd_(std::move(listening)) {
  arm();
}

Listener::~Listener() { assert(!pending()); }

void Listener::arm() {
  io_uring_prep_multishot_accept(worker_.reactor().prepare(*this), fd_.get(), nullptr, nullptr,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);
}

void Listener::completed(int32_t result, uint32_t) {
  if (result >= 0) {
    worker_.accepted(source_, base::Fd(result));
  } else if (!stopping_ && result != -EAGAIN && result != -ECONNABORTED && result != -EINTR) {
    // Out of descriptors or memory: those who wait stay in the queue until some are back.
    ++worker_.stats().accept_failures;
    if (!pending()) worker_.reactor().timers().schedule(retry_, worker_.reactor().now() + kRetry);
    return;
  }
  if (pending()) return;
  if (!stopping_) return arm();
  // The accept is cancelled: empty the queue, since closing it would reset who is in it.
  while (true) {
    base::Fd accepted(accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!accepted) break;
    worker_.accepted(source_, std::move(accepted));
  }
  fd_.reset();
}

void Listener::retry(base::Instant) {
  if (!stopping_) arm();
}

void Listener::stop() {
  if (stopping_) return;
  stopping_ = true;
  retry_.cancel();
  if (pending())
    worker_.reactor().cancel(*this);
  else
    fd_.reset();
}

}  // namespace weir::proxy
