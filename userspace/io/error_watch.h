// ErrorWatch: tells that a connection has broken to those who receive nothing from it at present: a receive would say
// so, but there is none, and after the peer's FIN none would. For connections that have been quiet for a while: it
// costs a system call to begin with, and none after that. One per reactor's thread.
#pragma once

#include "base/fd.h"
#include "io/reactor.h"

namespace weir::io {

class ErrorWatch final : private Operation {
 public:
  class Watcher {
   public:
    // Perhaps it has: the socket's error() says so. Also when both sides have sent FIN.
    virtual void on_broken() = 0;

   protected:
    ~Watcher() = default;
  };

  // Until remove(), which comes before the socket is closed. The watcher doesn't end within on_broken().
  // False: there are no descriptors, or no watches, for it now.
  [[nodiscard]] bool add(Reactor& reactor, int fd, Watcher& watcher);
  void remove(int fd);

 private:
  void completed(int32_t result, uint32_t cqe_flags) override;
  void arm();

  // A poll by io_uring itself would end at the peer's FIN.
  base::Fd epoll_;
  Reactor* reactor_ = nullptr;
};

}  // namespace weir::io
