// FullListener: an endpoint that nobody gets through to. Connects to it stay under way.
#pragma once

#include "wire.h"

namespace weir::proxy::testing {

// Its accept queue is full: a SYN is dropped.
class FullListener {
 public:
  FullListener() : fd_(listen_on_loopback(0, 0)), filling_(connect_to(address())) {}
  base::SocketAddress address() const { return address_of(fd_.get()); }
  base::Fd accept() { return base::Fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

 private:
  base::Fd fd_, filling_;
};

}  // namespace weir::proxy::testing
