// Inbound: an accepted connection whose protocol is not known yet. Its first bytes
// decide: the HTTP/2 preface makes it a Downstream, anything else a TcpRelay. Where nothing is
// declared (config::Mode::detect) the server may be the first to speak, so an endpoint is dialled at once.
#pragma once

#include <memory>

#include "detection/classify.h"
#include "io/socket.h"
#include "proxy/dial.h"
#include "proxy/transport.h"

namespace weir::proxy {

class Inbound final : public Transport, private io::SocketEvents, private DialEvents {
 public:
  Inbound(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, const Dialled& dialled);
  ~Inbound() override;

  // The last thing that its maker does with it: it may be gone when this returns.
  void start();
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
  void on_closed() override;
  void on_dialled() override;
  void on_server_spoke() override;
  void on_dial_failed(telemetry::Flags flags) override;
  void on_dial_closed() override;
  void timed_out(base::Instant now);
  void become_downstream();
  void become_relay(detection::Verdict verdict, telemetry::Flags failure = {});
  void leave();
  void remove_if_closed();

  std::unique_ptr<io::Socket> socket_;  // null: somebody else has it
  Dialled dialled_;
  Said said_;                   // by the client: too little to decide
  std::unique_ptr<Dial> dial_;  // null where HTTP/2 is declared
  bool dial_closing_ = false;
  io::MemberTimer<Inbound, &Inbound::timed_out> timeout_{*this};
};

}  // namespace weir::proxy
