#include "proxy/upstream.h"

#include <cstring>
#include <utility>

#include "proxy/pool.h"
#include "proxy/worker.h"

namespace weir::proxy {

Upstream::Upstream(Worker& worker, Source& source, EndpointPool& pool, std::unique_ptr<io::Socket> socket,
                   base::Duration connect_timeout)
    : Http2Transport(worker, source, std::move(socket), http2::Role::client), pool_(pool) {
  ++worker.stats().upstream_connections;
  ++worker.stats().upstream_connections_total;
  worker.reactor().timers().schedule(connect_timeout_, worker.reactor().now() + connect_timeout);
  limits_changed();
}

Upstream::~Upstream() { --worker().stats().upstream_connections; }

void Upstream::on_connected(int error) {
  if (ended()) return;
  if (error != 0) return fail(std::strerror(error));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
  go_on({});
}

void Upstream::go_on(const base::Slice& said) {
  connected_ = true;
  local_ = socket().local();
  start(said);
}

void Upstream::on_capacity() {
  if (ended()) return;
  if (!ready_ && connection().settings_received()) {
    if (connection().peer_max_concurrent_streams() == 0) return;  // connect_timed_out() ends it
    ready_ = true;
    pool_.on_first_ready();
    connect_timeout_.cancel();
    idle_since_ = worker().reactor().now();
    if (const auto& most = pool_.limits().max_connection_duration)
      worker().reactor().timers().schedule(age_, worker().reactor().now() + *most);
  }
  if (ready_) take_waiters();
}

void Upstream::take_waiters() {
  if (!pool_.on_capacity(*this)) needs_flush();
}

http::Stream* Upstream::open(http::StreamEvents& events) {
  if (++requests_ >= pool_.limits().max_requests_per_connection && !std::exchange(used_up_, true)) needs_flush();
  return connection().open(events);
}

void Upstream::limits_changed() { connection().limit_streams(pool_.limits().max_concurrent_streams); }

void Upstream::retire() {
  if (!connection().usable()) return;
  Http2Transport::drain();
  pool_.on_retired();
}

void Upstream::aged(base::Instant) { retire(); }

void Upstream::tick(base::Instant now) {
  const base::Duration idle_timeout = pool_.limits().idle_timeout;
  if (connection().open_streams() > 0 || requests_ != requests_at_tick_)
    idle_since_ = now;
  else if (ready_ && !ended() && idle_timeout > base::Duration::zero() && now - idle_since_ >= idle_timeout)
    retire();
  requests_at_tick_ = requests_;
  Http2Transport::tick(now);
}

void Upstream::flush() {
  if (ready_ && !ended()) {
    take_waiters();
    if (used_up_) retire();  // now that the last request's head is framed
  }
  Http2Transport::flush();
}

void Upstream::connect_timed_out(base::Instant) {
  fail(connected_ ? "no usable HTTP/2 SETTINGS within the connect timeout" : "connect timeout");
}

void Upstream::on_ended(const char* reason) {
  connect_timeout_.cancel();
  age_.cancel();
  const bool broke_protocol = connection().error()[0] != '\0';
  if (broke_protocol) ++worker().stats().upstream_protocol_errors;
  pool_.on_ended(*this, ConnectFailure{reason, broke_protocol, false}, !ready_);
}

}  // namespace weir::proxy
