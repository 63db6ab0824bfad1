// Upstream: an HTTP/2 connection to one endpoint, opened inside the source pod's
// network namespace, so that it carries the pod's own IP. It takes streams once the peer's
// SETTINGS have come: until then nothing has been asked of the backend, and a
// backend that does not speak HTTP/2 shows as a failed connect.
#pragma once

#include <memory>
#include <string>

#include "proxy/http2_transport.h"

namespace weir::proxy {

class EndpointPool;

class Upstream final : public Http2Transport {
 public:
  // connect() or go_on() follows, unless `socket` is connecting already.
  Upstream(Worker& worker, Source& source, EndpointPool& pool, std::unique_ptr<io::Socket> socket,
           base::Duration connect_timeout);
  ~Upstream() override;

  void connect(const base::SocketAddress& address) { socket().connect(address); }
  // The socket is connected, and `said` has been read from it.
  void go_on(const base::Slice& said);

  // Exchanges that still run may need it: it goes with the last of them.
  void drain() override {}
  // No new streams: it closes with the last one. Others may be opened in its place.
  void retire();
  void flush() override;
  void tick(base::Instant now) override;
  // One more request; ready() was true.
  http::Stream* open(http::StreamEvents& events);
  // The cluster's connectionPool is another one.
  void limits_changed();
  bool ready() const { return ready_ && !used_up_ && connection().can_open(); }
  bool connecting() const { return !ready_; }
  const base::SocketAddress& local_address() const { return local_; }

 private:
  http::StreamEvents* on_stream(http::Stream&) override { return nullptr; }  // servers open no streams
  void on_connected(int error) override;
  void on_capacity() override;
  void take_waiters();
  void on_ended(const char* reason) override;
  void connect_timed_out(base::Instant now);
  void aged(base::Instant now);

  EndpointPool& pool_;
  base::SocketAddress local_;
  io::MemberTimer<Upstream, &Upstream::connect_timed_out> connect_timeout_{*this};
  io::MemberTimer<Upstream, &Upstream::aged> age_{*this};  // maxConnectionDuration
  base::Instant idle_since_;
  uint64_t requests_ = 0, requests_at_tick_ = 0;
  bool used_up_ = false;    // maxRequestsPerConnection: to be retired
  bool connected_ = false;  // TCP
  bool ready_ = false;      // the peer's SETTINGS have come
};

}  // namespace weir::proxy
