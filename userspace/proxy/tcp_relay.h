// TcpRelay: a connection that is not HTTP/2, carried to one endpoint byte for byte.
// Each direction holds at most one received chunk: a slow reader stops the other
// side's sender through TCP itself. Half-closes and resets are carried over.
#pragma once

#include <memory>
#include <vector>

#include "proxy/downstream.h"
#include "proxy/pool.h"
#include "proxy/transport.h"
#include "telemetry/rpc.h"

namespace weir::proxy {

class TcpRelay final : public Transport {
 public:
  // `first`: what the client has said already; `client_ended`: and it sent FIN.
  TcpRelay(Worker& worker, Source& source, std::unique_ptr<io::Socket> client, const Dialled& dialled,
           const base::Slice& first, bool client_ended);
  ~TcpRelay() override;

  // Picks an endpoint and connects.
  void start();
  void tick(base::Instant now) override;
  void drain() override {}  // ends when its two sides do, or by end_relay()
  void end_relay() override { abort(); }
  void abort() override;
  void flush() override;

 private:
  struct Side final : io::SocketEvents {
    explicit Side(TcpRelay& owner) : relay(owner) {}
    void on_connected(int error) override { relay.connected(error); }
    void on_received(base::Slice bytes) override { relay.received(*this, std::move(bytes)); }
    void on_receive_end(int error) override { relay.receive_ended(*this, error); }
    void on_sent(int result) override { relay.sent(*this, result); }
    void on_writable() override { relay.send_rest(*this); }
    void on_closed() override { relay.closed(*this); }

    TcpRelay& relay;
    std::unique_ptr<io::Socket> socket;
    base::Slice to_send;
    base::Slice next;       // came while `to_send` was on its way: the receive that detection had started
    uint64_t bytes_in = 0;  // received from this side
    bool ended = false;     // this side sent FIN
    bool receiving = false;
  };

  Side& other(Side& side) { return &side == &client_ ? server_ : client_; }
  // All that the two sides said has been passed on, their FINs included.
  bool complete() const;
  void connect();
  void connected(int error);
  void connect_failed();
  void connect_timed_out(base::Instant now);
  void received(Side& from, base::Slice bytes);
  void receive_ended(Side& from, int error);
  void sent(Side& to, int result);
  void pass_on(Side& to);
  void send_rest(Side& to);
  void account();
  void receive_from(Side& from);
  void finish(telemetry::Flags flags, bool reset);
  void closed(Side& side);

  Side client_{*this}, server_{*this};
  Dialled dialled_;
  std::shared_ptr<const config::Service> service_;
  ClusterPool* pool_ = nullptr;       // null: the service is gone, or has no such port
  EndpointPool* endpoint_ = nullptr;  // counted among its active requests
  config::Endpoint endpoint_record_;
  std::vector<const clusters::EndpointState*> tried_;
  base::SocketAddress upstream_local_;
  base::Instant started_, last_activity_;
  io::MemberTimer<TcpRelay, &TcpRelay::connect_timed_out> connect_timeout_{*this};
  bool connected_ = false;
  bool finished_ = false;
};

}  // namespace weir::proxy
