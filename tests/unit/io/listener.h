// Hears a socket and counts.
#pragma once

#include "io/socket.h"

namespace weir::io {

struct Listener : SocketEvents {
  void on_connected(int) override {}
  void on_received(base::Slice) override { ++chunks; }
  void on_receive_end(int) override {}
  void on_sent(int) override {}
  void on_writable() override {}
  void on_closed() override { ++closed; }
  int chunks = 0, closed = 0;
};

}  // namespace weir::io
