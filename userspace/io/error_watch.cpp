#include "io/error_watch.h"

#include <poll.h>
#include <sys/epoll.h>

namespace weir::io {
namespace {
constexpr int kEventsAtOnce = 64;
}

bool ErrorWatch::add(Reactor& reactor, int fd, Watcher& watcher) {
  if (!epoll_) {
    epoll_ = base::Fd(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_) return false;
    reactor_ = &reactor;
    arm();
  }
  epoll_event event{};
  event.events = EPOLLET;  // EPOLLERR and EPOLLHUP are always meant
  event.data.ptr = &watcher;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void ErrorWatch::remove(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void ErrorWatch::arm() { io_uring_prep_poll_add(reactor_->prepare(*this), epoll_.get(), POLLIN); }

void ErrorWatch::completed(int32_t, uint32_t) {
  epoll_event events[kEventsAtOnce];
  const int ready = epoll_wait(epoll_.get(), events, kEventsAtOnce, 0);
  for (int i = 0; i < ready; ++i) static_cast<Watcher*>(events[i].data.ptr)->on_broken();
  arm();
}

}  // namespace weir::io
