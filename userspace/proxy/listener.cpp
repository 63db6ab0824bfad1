#include "proxy/listener.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
constexpr auto kRetry = std::chrono::milliseconds(20);
constexpr int kEventsAtOnce = 64;
constexpr int kAcceptsAtOnce = 64;  // of one listener, then others get their turn
}  // namespace

void refuse(const base::Fd& accepted) {
  const linger now{1, 0};
  if (accepted) setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

base::Result<void> ListenerSet::start() {
  epoll_ = base::Fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return base::system_error("epoll_create1", errno);
  take_spare();
  arm();
  return {};
}

bool ListenerSet::take_spare() {
  if (!spare_) spare_ = base::Fd(fcntl(epoll_.get(), F_DUPFD_CLOEXEC, 0));
  return static_cast<bool>(spare_);
}

bool ListenerSet::refuse_one(int listening) {
  if (!spare_) return false;
  spare_.reset();
  base::Fd accepted(accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!accepted) {
    take_spare();
    return false;
  }
  refuse(accepted);
  // Closes the socket and takes its number in one step: between two, another thread could have it.
  if (dup3(epoll_.get(), accepted.get(), O_CLOEXEC) >= 0) {
    spare_ = std::move(accepted);
  } else {
    accepted.reset();
    take_spare();
  }
  return true;
}

void ListenerSet::arm() { io_uring_prep_poll_add(worker_.reactor().prepare(*this), epoll_.get(), POLLIN); }

void ListenerSet::completed(int32_t, uint32_t) {
  epoll_event events[kEventsAtOnce];
  const int ready = epoll_wait(epoll_.get(), events, kEventsAtOnce, 0);
  for (int i = 0; i < ready; ++i) static_cast<Listener*>(events[i].data.ptr)->accept_waiting();
  arm();  // level-triggered: what is left completes at once
}

Listener::Listener(Worker& worker, Source& source, base::Fd listening)
    : worker_(worker), source_(source), fd_(std::move(listening)) {
  wait_for_more();
}

bool Listener::wait_for_more() {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = this;
  const bool added = epoll_ctl(worker_.listeners().epoll_.get(), EPOLL_CTL_ADD, fd_.get(), &event) == 0;
  if (!added) {
    const int error = errno;
    ++worker_.stats().accept_failures;
    if (!told_)
      base::log::error("listening for pod {}: {}; it is tried again and again", source_.pod().qualified_name(),
                       base::system_error("epoll_ctl", error).message);
    worker_.reactor().timers().schedule(retry_, worker_.reactor().now() + kRetry);
  }
  told_ = !added;
  return added;
}

// While there is no room (fs.epoll.max_user_watches, memory), who waits is taken all the same: nothing else tells of
// them.
void Listener::retry(base::Instant) {
  if (wait_for_more()) return;
  for (int i = 0; i < kAcceptsAtOnce && source_.may_start_work(); ++i) {
    source_.spend(work::kAccept);
    if (!accept_one()) return;
  }
}

void Listener::accept_waiting() {
  // Before a connection has the last descriptor, and others wait until that one ends.
  if (!worker_.listeners().take_spare()) return pause();
  // Mostly one waits, and to ask whether there is another would be half of the system calls. Who waits all the same is
  // taken in the next turn, which then comes at once, and with twice as many others.
  const bool at_once = std::exchange(last_turn_, worker_.reactor().turns()) + 1 == worker_.reactor().turns();
  at_once_ = at_once ? std::min(2 * at_once_, kAcceptsAtOnce) : 1;
  for (int i = 0; i < at_once_ && source_.may_start_work(); ++i) {
    source_.spend(work::kAccept);
    if (accept_one() || errno == ECONNABORTED || errno == EINTR) continue;
    if (errno == EAGAIN) {
      at_once_ = std::max(i, 1);
      return;
    }
    ++worker_.stats().accept_failures;
    if ((errno == EMFILE || errno == ENFILE) && worker_.listeners().refuse_one(fd_.get())) continue;
    return pause();
  }
}

bool Listener::accept_one() {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  base::Fd accepted(accept4(fd_.get(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!accepted) return false;
  worker_.accepted(source_, std::move(accepted), base::SocketAddress::from(peer));
  return true;
}

void Listener::pause() {
  epoll_ctl(worker_.listeners().epoll_.get(), EPOLL_CTL_DEL, fd_.get(), nullptr);
  worker_.reactor().timers().schedule(retry_, worker_.reactor().now() + kRetry);
}

Listener::~Listener() {
  // Those who wait now, and some whose connect() was under way: a pod that goes on connecting must not hold the worker.
  tcp_info info{};
  socklen_t size = sizeof info;
  getsockopt(fd_.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
  for (uint32_t left = info.tcpi_unacked + kAcceptsAtOnce; left > 0; --left)
    if (!accept_one() && errno != ECONNABORTED && errno != EINTR) return;
}

}  // namespace weir::proxy
