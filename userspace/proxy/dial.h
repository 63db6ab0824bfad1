// Dial: the server's side of a connection whose bytes may pass as they are: it picks an endpoint
// of the service that was dialled, connects, and tries others until one answers: five at most, for three times the
// connect timeout at most. Each attempt is charged to the pod, and waits for its turn. Until its socket is taken it
// keeps what the server has said.
#pragma once

#include <memory>
#include <vector>

#include "io/socket.h"
#include "proxy/downstream.h"
#include "proxy/pool.h"
#include "proxy/transport.h"
#include "telemetry/rpc.h"

namespace weir::proxy {

// What one end has said to somebody who does not know yet what to do with it.
struct Said {
  base::Slice bytes;
  bool ended = false;
  int error = 0;  // with `ended`: 0 is FIN, otherwise an errno value

  void add(base::Slice more);
  // What waits for a decision must not keep receive buffers from others.
  void own() { bytes = base::Slice::copy_of(bytes.bytes()); }
};

class DialEvents {
 public:
  virtual ~DialEvents() = default;
  virtual void on_dialled() = 0;  // connected: take_socket() has it
  // The server said something, or ended, before the socket was taken. Not while nobody asked for it by listen().
  virtual void on_server_spoke() = 0;
  virtual void on_dial_failed(telemetry::Flags flags) = 0;  // no endpoint took the connection
  virtual void on_dial_closed() = 0;                        // close() said that this follows
};

class Dial final : private io::SocketEvents, private TakesTurns {
 public:
  Dial(Worker& worker, Source& source, const Dialled& dialled);
  ~Dial() override;  // no socket is left: it was taken, or on_dial_closed() was called
  Dial(const Dial&) = delete;
  Dial& operator=(const Dial&) = delete;

  void set_events(DialEvents& events) { events_ = &events; }
  // Connects, now or in the pod's turn. An event may come before this returns.
  void start();
  bool started() const { return started_; }
  // Once connected: one chunk is received and kept.
  void listen() { socket_->receive_once(); }
  const Said& said() const { return said_; }
  bool connected() const { return connected_; }
  bool connecting() const { return !connected_ && socket_ && !socket_->closing(); }

  // The socket, connected or connecting, with a receive pending or not.
  std::unique_ptr<io::Socket> take_socket();
  // Gives up; `abort`: with RST. True: on_dial_closed() follows, and nothing else does; false: there is nothing to wait
  // for.
  bool close(bool abort);
  // The relay is over: it counts no longer among what its endpoint and cluster have under way.
  void release();

  // Null: the service is gone.
  const std::shared_ptr<const config::Service>& service() const { return service_; }
  // Null: the service is gone, or dialled at its endpoints' own addresses, which bytes of any protocol have to reach.
  ClusterPool* pool() const { return pool_; }
  // What a DestinationRule says of its connections, or the defaults.
  const config::ConnectionPool& settings() const;
  const config::Cluster* cluster() const { return cluster_.get(); }
  EndpointPool* endpoint() const { return endpoint_; }  // null: none was found, or released
  // The last that was tried; null: none was.
  const config::Endpoint* last_endpoint() const { return tried_.empty() ? nullptr : &endpoint_record_; }
  // Why the last attempt failed, for people; empty if it did not.
  const char* failure() const { return failure_; }

 private:
  void on_connected(int error) override;
  void on_received(base::Slice bytes) override;
  void on_receive_end(int error) override;
  void on_sent(int) override {}
  void on_writable() override {}
  void on_closed() override;
  void flush() override { connect(); }
  void connect();
  void connect_failed(const char* reason);
  void timed_out(base::Instant now);
  void fail(telemetry::Flag flag);

  Worker& worker_;
  Source& source_;
  DialEvents* events_ = nullptr;
  const Dialled dialled_;
  std::shared_ptr<const config::Service> service_;
  std::shared_ptr<const config::Cluster> cluster_;  // of the port
  ClusterPool* pool_ = nullptr;
  EndpointPool* endpoint_ = nullptr;  // counted among its active requests
  config::Endpoint endpoint_record_;
  std::vector<base::SocketAddress> tried_;  // an endpoint may leave, and come back, meanwhile
  const char* failure_ = "";
  base::Instant begun_{};
  std::unique_ptr<io::Socket> socket_;
  Said said_;
  io::MemberTimer<Dial, &Dial::timed_out> timeout_{*this};
  bool learns_ = false;  // connections to the port may pass by the agent
  bool started_ = false;
  bool taken_ = false;
  bool connected_ = false;
  bool closing_ = false;
};

}  // namespace weir::proxy
