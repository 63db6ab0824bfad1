#include "io/socket.h"

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <cassert>
#include <cerrno>
#include <utility>

namespace weir::io {
namespace {
constexpr auto kNoBufferRetry = std::chrono::milliseconds(5);
}

Socket::Socket(Reactor& reactor, base::Fd fd, bool inherits) : reactor_(reactor), fd_(std::move(fd)) {
  if (inherits) return;
  const int on = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Socket::~Socket() { assert(!connect_.pending() && !receive_.pending() && !send_.pending() && !writable_.pending()); }

void Socket::connect(const base::SocketAddress& address) {
  const socklen_t size = address.to(peer_);
  io_uring_prep_connect(reactor_.prepare(connect_), fd_.get(), reinterpret_cast<sockaddr*>(&peer_), size);
}

void Socket::bind_apart(sa_family_t family) {
  sockaddr_storage any{};
  any.ss_family = family;
  const socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  [[maybe_unused]] const int bound = ::bind(fd_.get(), reinterpret_cast<sockaddr*>(&any), size);
}

void Socket::connect_completed(int32_t result, uint32_t) {
  if (closing_) return report_closed_if_idle();
  events_->on_connected(-result);
}

void Socket::receive() { ask(true); }

void Socket::receive_once() { ask(false); }

void Socket::ask(bool multishot) {
  multishot_ = multishot;
  paused_ = false;
  if (closing_ || receive_ended_ || receiving()) return;  // one that is pending is followed by this when it completes
  arm_receive();
}

void Socket::await_readable() {
  if (closing_ || receive_ended_ || receiving()) return;
  awaited_ = true;
  io_uring_prep_poll_add(reactor_.prepare(receive_), fd_.get(), POLLIN);
}

int Socket::receive_into(Pipe& pipe) {
  const int moved = pipe.fill(fd_.get());
  if (moved == -EAGAIN) return 0;
  if (moved < 0) receive_ended_ = true;
  return moved;
}

void Socket::pause_receive() {
  if (std::exchange(paused_, true)) return;
  receive_retry_.cancel();
  reactor_.cancel(receive_);
}

void Socket::arm_receive() {
  if (paused_) return;
  io_uring_sqe* sqe = reactor_.prepare(receive_);
  if (multishot_)
    io_uring_prep_recv_multishot(sqe, fd_.get(), nullptr, 0, 0);
  else
    io_uring_prep_recv(sqe, fd_.get(), nullptr, ReceiveBuffers::kBufferSize, 0);
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = ReceiveBuffers::kGroup;
}

void Socket::receive_completed(int32_t result, uint32_t flags) {
  base::Slice bytes;
  if (flags & IORING_CQE_F_BUFFER) {
    const auto id = static_cast<uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
    bytes = reactor_.buffers().take(id, static_cast<uint32_t>(result > 0 ? result : 0));
  }
  if (closing_) return report_closed_if_idle();
  if (std::exchange(awaited_, false)) return events_->on_readable();
  if (result > 0) {
    more_to_receive_ = (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if (multishot_ && !receive_.pending()) arm_receive();
    return events_->on_received(std::move(bytes));
  }
  if (result == -ENOBUFS) {
    reactor_.buffers().ran_out();
    // More sockets had bytes in this turn than the ring has buffers. It is restocked before the next one ...
    if (reactor_.buffers().can_restock()) return arm_receive();
    if (paused_) return;
    // ... unless all buffers are held by bodies in flight: go on when some have come back.
    return reactor_.timers().schedule(receive_retry_, reactor_.now() + kNoBufferRetry);
  }
  if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) return arm_receive();
  receive_ended_ = true;
  events_->on_receive_end(-result);
}

void Socket::retry_receive(base::Instant) {
  if (!closing_) arm_receive();
}

void Socket::send(std::span<const iovec> bytes, bool more, bool joined) {
  assert(!sending() && !bytes.empty());
  sending_bytes_ = 0;
  for (const iovec& part : bytes) sending_bytes_ += static_cast<uint32_t>(part.iov_len);
  // MSG_DONTWAIT: it completes while it is submitted, whatever the state of the socket. MSG_WAITALL: to io_uring a send
  // of less is no success then, and is reported.
  const int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (more ? 0 : MSG_WAITALL) | (joined ? MSG_MORE : 0);
  io_uring_sqe* sqe = reactor_.prepare(send_);
  if (bytes.size() == 1)
    io_uring_prep_send(sqe, fd_.get(), bytes[0].iov_base, bytes[0].iov_len, flags);
  else
    io_uring_prep_sendmsg(sqe, fd_.get(), reactor_.stage(bytes), flags);
  if (!more) reactor_.expect(send_, *sqe, static_cast<int32_t>(sending_bytes_));
}

void Socket::send_completed(int32_t result, uint32_t) {
  if (closing_) return report_closed_if_idle();
  if (result == -EAGAIN) result = 0;
  if (result >= 0 && static_cast<uint32_t>(result) < sending_bytes_) wait_writable();
  events_->on_sent(result);
}

int Socket::send_from(Pipe& pipe) {
  assert(!sending());
  const int moved = pipe.drain(fd_.get());
  if (moved >= 0 ? pipe.held() > 0 : moved == -EAGAIN) wait_writable();
  return moved == -EAGAIN ? 0 : moved;
}

void Socket::wait_writable() {
  waiting_writable_ = true;
  io_uring_prep_poll_add(reactor_.prepare(writable_), fd_.get(), POLLOUT);
}

void Socket::writable_completed(int32_t, uint32_t) {
  waiting_writable_ = false;
  if (closing_) return report_closed_if_idle();
  events_->on_writable();
}

void Socket::shutdown_write() { ::shutdown(fd_.get(), SHUT_WR); }

void Socket::close(bool abort) {
  if (closing_) return;
  closing_ = true;
  receive_retry_.cancel();
  if (abort) {
    const linger now{1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  reactor_.cancel(connect_);
  reactor_.cancel(receive_);
  reactor_.cancel(writable_);
  // A send that goes whole ends no turn: this does.
  if (send_.pending()) reactor_.timers().schedule_next(closed_);
  if (connect_.pending() || receive_.pending() || send_.pending() || writable_.pending()) return;
  fd_.reset();  // the peer hears of it at once
  reactor_.timers().schedule_next(closed_);
}

void Socket::report_closed(base::Instant) {
  if (send_.pending()) return reactor_.timers().schedule_next(closed_);  // it is submitted with the next turn
  report_closed_if_idle();
}

void Socket::report_closed_if_idle() {
  if (connect_.pending() || receive_.pending() || send_.pending() || writable_.pending()) return;
  closed_.cancel();
  fd_.reset();
  events_->on_closed();
}

void Socket::keep_alive(int probes, int idle_seconds, int interval_seconds) {
  const auto set = [this](int level, int option, int value) {
    setsockopt(fd_.get(), level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  if (probes > 0) set(IPPROTO_TCP, TCP_KEEPCNT, probes);
  if (idle_seconds > 0) set(IPPROTO_TCP, TCP_KEEPIDLE, idle_seconds);
  if (interval_seconds > 0) set(IPPROTO_TCP, TCP_KEEPINTVL, interval_seconds);
}

int Socket::error() const {
  int error = 0;
  socklen_t size = sizeof error;
  return getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

int Socket::unsent() const {
  int bytes = 0;
  return ioctl(fd_.get(), SIOCOUTQNSD, &bytes) == 0 ? bytes : 0;
}

base::SocketAddress Socket::local() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return base::SocketAddress::from(address);
}

}  // namespace weir::io
