#include "proxy/tcp_relay.h"

#include <utility>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
constexpr auto kIdleTimeout = std::chrono::hours(1);                  // Istio: connectionPool.tcp.idleTimeout
constexpr base::Duration kConnectTimeout = std::chrono::seconds(10);  // where no cluster says
constexpr uint32_t kCopied = 4096;                                    // below, what waits is copied
constexpr uint64_t kChunkWork = 5, kBytesPerWork = 4096;              // Source::spend: passing a chunk on
}  // namespace

TcpRelay::TcpRelay(Worker& worker, Source& source, std::unique_ptr<io::Socket> client, const Dialled& dialled,
                   const base::Slice& first, bool client_ended)
    : Transport(worker, source, Opened::by_pod),
      dialled_(dialled),
      started_(worker.reactor().now()),
      last_activity_(started_) {
  ++worker.stats().tcp_relays;
  ++worker.stats().tcp_relays_total;
  client_.socket = std::move(client);
  client_.socket->set_events(client_);
  client_.receiving = client_.socket->receiving();
  client_.ended = client_ended;
  client_.bytes_in = first.size();
  server_.to_send = first;
}

TcpRelay::~TcpRelay() { --worker().stats().tcp_relays; }

void TcpRelay::start() {
  const config::Snapshot& snapshot = worker().snapshot();
  if (const auto* found = snapshot.service_at(dialled_.address)) {
    service_ = *found;
    worker().recorder().opened(source().pod(), *service_);
    const config::ServicePort* port = service_->find_port(dialled_.address.port);
    const config::Pod& pod = source().pod();
    const auto* cluster = port ? port->cluster_for({}, pod.namespace_name, pod.labels) : nullptr;
    if (cluster && *cluster) pool_ = &source().pool(*cluster);
  }
  connect();
}

void TcpRelay::connect() {
  base::SocketAddress to = dialled_.address;  // a service that just went: kube-proxy may still know it
  base::Duration timeout = kConnectTimeout;
  if (pool_) {
    EndpointPool* endpoint = pool_->pick(dialled_.address.ip, tried_, worker().reactor().now());
    if (!endpoint) {
      telemetry::Flags flags;
      flags.set(tried_.empty() ? telemetry::Flag::UH : telemetry::Flag::UF);
      return finish(flags, true);
    }
    endpoint_ = endpoint;
    ++endpoint_->active_requests;
    ++endpoint_->requests;
    endpoint_record_ = endpoint->endpoint;
    tried_.push_back(endpoint);
    to = endpoint->endpoint.address;
    timeout = pool_->cluster()->connection_pool.connect_timeout;
  }
  auto socket = source().upstream_socket(to);
  if (!socket) {
    telemetry::Flags flags;
    flags.set(telemetry::Flag::OM);
    return finish(flags, true);
  }
  server_.socket = std::move(*socket);
  server_.socket->set_events(server_);
  server_.socket->connect(to);
  worker().reactor().timers().schedule(connect_timeout_, worker().reactor().now() + timeout);
}

void TcpRelay::connected(int error) {
  if (finished_) return;
  if (error != 0) return connect_failed();
  connect_timeout_.cancel();
  connected_ = true;
  upstream_local_ = server_.socket->local();
  if (!server_.to_send.empty()) send_rest(server_);
  if (client_.ended && server_.to_send.empty()) server_.socket->shutdown_write();
  receive_from(server_);
  if (server_.to_send.empty()) receive_from(client_);
}

void TcpRelay::connect_timed_out(base::Instant) { connect_failed(); }

void TcpRelay::connect_failed() {
  connect_timeout_.cancel();
  if (!pool_) {
    telemetry::Flags flags;
    flags.set(telemetry::Flag::UF);
    return finish(flags, true);
  }
  endpoint_->avoid();
  --endpoint_->active_requests;
  endpoint_ = nullptr;
  server_.socket->close();  // closed() goes on with the next endpoint
}

void TcpRelay::receive_from(Side& from) {
  if (from.ended || from.receiving) return;
  from.receiving = true;
  from.socket->receive_once();
}

void TcpRelay::received(Side& from, base::Slice bytes) {
  from.receiving = false;
  if (finished_) return;
  last_activity_ = worker().reactor().now();
  from.bytes_in += bytes.size();
  Side& to = other(from);
  (to.to_send.empty() ? to.to_send : to.next) = std::move(bytes);
  account();
  if (&to == &server_ && !connected_) return;  // connected() passes it on
  if (to.next.empty()) pass_on(to);            // otherwise sent() does
}

void TcpRelay::pass_on(Side& to) {
  if (source().may_start_work()) return send_rest(to);
  needs_flush();
}

void TcpRelay::flush() {
  for (Side* side : {&client_, &server_})
    if (side->socket && !side->socket->sending() && (side == &client_ || connected_)) send_rest(*side);
}

void TcpRelay::account() {
  hold(static_cast<int64_t>(client_.to_send.size() + client_.next.size() + server_.to_send.size() +
                            server_.next.size()) -
       held());
}

void TcpRelay::send_rest(Side& to) {
  if (finished_ || to.to_send.empty()) return;
  source().spend(kChunkWork + to.to_send.size() / kBytesPerWork);
  const iovec bytes{const_cast<uint8_t*>(to.to_send.data()), to.to_send.size()};
  to.socket->send({&bytes, 1}, true);
}

void TcpRelay::sent(Side& to, int result) {
  if (finished_) return;
  if (result < 0) {
    telemetry::Flags flags;
    flags.set(&to == &client_ ? telemetry::Flag::DC : telemetry::Flag::UC);
    return finish(flags, true);
  }
  to.to_send.remove_prefix(static_cast<uint32_t>(result));
  account();
  if (!to.to_send.empty()) {  // on_writable() goes on
    // What waits for a slow reader must not take the receive buffers from others.
    if (to.to_send.size() < kCopied || source().must_copy()) to.to_send = base::Slice::copy_of(to.to_send.bytes());
    return;
  }
  to.to_send = std::exchange(to.next, {});
  if (!to.to_send.empty()) return send_rest(to);
  Side& from = other(to);
  if (!from.ended) return receive_from(from);
  to.socket->shutdown_write();
  if (complete()) finish({}, false);
}

void TcpRelay::receive_ended(Side& from, int error) {
  from.receiving = false;
  if (finished_) return;
  if (error != 0) {
    telemetry::Flags flags;
    flags.set(&from == &client_ ? telemetry::Flag::DC : telemetry::Flag::UC);
    return finish(flags, true);
  }
  from.ended = true;
  Side& to = other(from);
  if (&to == &server_ && !connected_) return;  // connected() passes it on
  if (!to.to_send.empty()) return;             // sent() passes it on
  to.socket->shutdown_write();
  if (complete()) finish({}, false);
}

bool TcpRelay::complete() const {
  return client_.ended && server_.ended && client_.to_send.empty() && server_.to_send.empty();
}

void TcpRelay::finish(telemetry::Flags flags, bool reset) {
  if (finished_) return;
  finished_ = true;
  connect_timeout_.cancel();
  if (endpoint_) --endpoint_->active_requests;
  if (service_) {
    telemetry::TcpConnection record;
    record.started = started_;
    record.ended = worker().reactor().now();
    record.flags = flags;
    record.bytes_received = client_.bytes_in;
    record.bytes_sent = server_.bytes_in;
    record.source = &source().pod();
    record.service = service_.get();
    record.endpoint = endpoint_ ? &endpoint_record_ : nullptr;
    record.downstream_local = dialled_.address;
    record.downstream_remote = dialled_.client;
    record.upstream_local = upstream_local_;
    worker().recorder().record(record);
  }
  endpoint_ = nullptr;
  hold(-held());
  client_.socket->close(reset);
  if (server_.socket) server_.socket->close(reset);
}

void TcpRelay::closed(Side& side) {
  side.socket.reset();
  if (!finished_ && &side == &server_) return connect();
  if (!client_.socket && !server_.socket) removed();
}

void TcpRelay::tick(base::Instant now) {
  if (!finished_ && now - last_activity_ > kIdleTimeout) finish({}, false);
}

void TcpRelay::abort() {
  telemetry::Flags flags;
  if (worker().shedding()) flags.set(telemetry::Flag::OM);
  finish(flags, true);
}

}  // namespace weir::proxy
