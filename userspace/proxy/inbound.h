// Inbound: an accepted connection whose protocol is not known yet. Its first bytes
// decide: the HTTP/2 preface makes it a Downstream, anything else a TcpRelay.
#pragma once

#include <memory>
#include <string>

#include "io/socket.h"
#include "proxy/downstream.h"
#include "proxy/transport.h"

namespace weir::proxy {

class Inbound final : public Transport, private io::SocketEvents {
 public:
  Inbound(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, const Dialled& dialled);
  ~Inbound() override;

  void tick(base::Instant) override {}
  void drain() override {}  // its first bytes are due within the detection timeout
  void end_relay() override { abort(); }
  void abort() override;

 private:
  void on_connected(int) override {}
  void on_received(base::Slice bytes) override;
  void on_receive_end(int error) override;
  void on_sent(int) override {}
  void on_writable() override {}
  void on_closed() override { removed(); }
  void timed_out(base::Instant now);
  void become_downstream(const base::Slice& first);
  void become_relay(const base::Slice& first, bool client_ended);

  std::unique_ptr<io::Socket> socket_;
  Dialled dialled_;
  std::string seen_;  // what came in pieces too small to decide
  io::MemberTimer<Inbound, &Inbound::timed_out> timeout_{*this};
};

}  // namespace weir::proxy
