#include "proxy/upstream.h"

#include <cstring>

#include "proxy/pool.h"
#include "proxy/worker.h"

namespace weir::proxy {

Upstream::Upstream(Worker& worker, Source& source, EndpointPool& pool, std::unique_ptr<io::Socket> connecting,
                   const base::SocketAddress& address, base::Duration connect_timeout)
    : Http2Transport(worker, source, std::move(connecting), http2::Role::client), pool_(pool) {
  ++worker.stats().upstream_connections;
  ++worker.stats().upstream_connections_total;
  worker.reactor().timers().schedule(connect_timeout_, worker.reactor().now() + connect_timeout);
  socket().connect(address);
}

Upstream::~Upstream() { --worker().stats().upstream_connections; }

void Upstream::on_connected(int error) {
  if (ended()) return;
  if (error != 0) return fail(std::strerror(error));
  connected_ = true;
  local_ = socket().local();
  start({});
}

void Upstream::on_capacity() {
  if (ended()) return;
  if (!ready_ && connection().settings_received()) {
    if (connection().peer_max_concurrent_streams() == 0) return;  // connect_timed_out() ends it
    ready_ = true;
    connect_timeout_.cancel();
  }
  if (ready_) take_waiters();
}

void Upstream::take_waiters() {
  if (!pool_.on_capacity(*this)) needs_flush();
}

void Upstream::flush() {
  if (ready_ && !ended()) take_waiters();
  Http2Transport::flush();
}

void Upstream::connect_timed_out(base::Instant) {
  fail(connected_ ? "no usable HTTP/2 SETTINGS within the connect timeout" : "connect timeout");
}

void Upstream::on_ended(const char* reason) {
  connect_timeout_.cancel();
  const bool broke_protocol = connection().error()[0] != '\0';
  if (broke_protocol) ++worker().stats().upstream_protocol_errors;
  pool_.on_ended(*this, ConnectFailure{reason, broke_protocol, false}, !ready_);
}

}  // namespace weir::proxy
