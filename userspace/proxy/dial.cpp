#include "proxy/dial.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
// Endpoints are not all tried: meanwhile the client waits, and holds a connection of the pod's. Of those that refuse it
// takes no time, but each looks through all that there are for one that may be picked.
constexpr size_t kMostTried = 5;
constexpr int kMostTimeouts = 3;
}  // namespace

void Said::add(base::Slice more) {
  if (bytes.empty()) {
    bytes = std::move(more);
    return;
  }
  std::vector<uint8_t> joined(bytes.bytes().begin(), bytes.bytes().end());
  joined.insert(joined.end(), more.bytes().begin(), more.bytes().end());
  bytes = base::Slice::copy_of(joined);
}

Dial::Dial(Worker& worker, Source& source, const Dialled& dialled)
    : worker_(worker), source_(source), dialled_(dialled) {
  const auto [service, port] = worker.snapshot().at(dialled.address);
  if (!service) return;
  service_ = *service;
  learns_ = port->learns();
  const config::Pod& pod = source.pod();
  const auto* cluster = port->cluster_for({}, pod.namespace_name, pod.labels);
  if (!cluster || !*cluster) return;
  cluster_ = *cluster;
  if (!service_->by_endpoint) pool_ = &source.pool(cluster_);
}

Dial::~Dial() {
  assert(!socket_);
  release();
  if (started_ && !taken_) --worker_.stats().dials;
}

void Dial::start() {
  started_ = true;
  begun_ = worker_.reactor().now();
  ++worker_.stats().dials;
  source_.may_follow_accept() ? connect() : source_.wait_for_turn(*this);
}

void Dial::connect() {
  source_.spend(work::kDial);
  // Of a service that just went (kube-proxy may still know it), or an endpoint that was dialled itself.
  base::SocketAddress to = dialled_.address;
  const config::ConnectionPool settings = this->settings();
  // Bytes of a protocol that is not known go to nobody in the clear who is to get them encrypted.
  if (cluster_ && cluster_->tls_wanted) return fail(telemetry::Flag::UF);
  if (pool_) {
    if (!pool_->may_open()) return fail(telemetry::Flag::UO);  // others came first, while an endpoint was tried perhaps
    const base::Instant now = worker_.reactor().now();
    const bool late = !tried_.empty() && now - begun_ >= kMostTimeouts * settings.connect_timeout;
    if (late || tried_.size() == kMostTried) return fail(telemetry::Flag::UF);
    std::vector<const clusters::EndpointState*> tried;
    for (const base::SocketAddress& address : tried_)
      if (const EndpointPool* known = pool_->endpoint_at(address)) tried.push_back(known);
    EndpointPool* endpoint = pool_->pick(dialled_.address.ip, tried, now);
    if (!endpoint) return fail(tried_.empty() ? telemetry::Flag::UH : telemetry::Flag::UF);
    endpoint_ = endpoint;
    endpoint_->begin_relay();
    endpoint_record_ = endpoint->endpoint;
    tried_.push_back(endpoint->endpoint.address);
    to = endpoint->endpoint.address;
  }
  auto socket = source_.upstream_socket(to, settings);
  if (!socket) return fail(telemetry::Flag::OM);
  socket_ = std::move(*socket);
  socket_->set_events(*this);
  // Others of the pod's connections go to the same endpoint past the agent, by the VIP. A server that still has one of
  // its ports in TIME_WAIT refuses the SYN of the other way's, whose timestamps have another offset, for a second.
  if (learns_ && pool_ && source_.sets_apart(dialled_.address, service_->fqdn))
    socket_->bind_apart(to.ip.is_v4() ? AF_INET : AF_INET6);
  socket_->connect(to);
  worker_.reactor().timers().schedule(timeout_, worker_.reactor().now() + settings.connect_timeout);
}

const config::ConnectionPool& Dial::settings() const {
  static const config::ConnectionPool kDefaults;
  if (pool_) return pool_->cluster()->connection_pool;
  return cluster_ ? cluster_->connection_pool : kDefaults;
}

void Dial::fail(telemetry::Flag flag) {
  telemetry::Flags flags;
  flags.set(flag);
  events_->on_dial_failed(flags);
}

void Dial::on_connected(int error) {
  if (error != 0) return connect_failed(std::strerror(error));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
  timeout_.cancel();
  failure_ = "";
  connected_ = true;
  events_->on_dialled();
}

void Dial::timed_out(base::Instant) { connect_failed("connect timeout"); }

void Dial::connect_failed(const char* reason) {
  failure_ = reason;
  timeout_.cancel();
  if (!pool_) return fail(telemetry::Flag::UF);
  endpoint_->avoid();
  release();
  socket_->close();  // on_closed() goes on with the next endpoint
}

void Dial::on_received(base::Slice bytes) {
  said_.add(std::move(bytes));
  said_.own();
  events_->on_server_spoke();
}

void Dial::on_receive_end(int error) {
  said_.ended = true;
  said_.error = error;
  events_->on_server_spoke();
}

std::unique_ptr<io::Socket> Dial::take_socket() {
  timeout_.cancel();
  taken_ = true;
  --worker_.stats().dials;
  return std::move(socket_);
}

bool Dial::close(bool abort) {
  closing_ = true;
  unlink();
  timeout_.cancel();
  release();
  if (!socket_) return false;
  socket_->close(abort);
  return true;
}

void Dial::release() {
  if (endpoint_) std::exchange(endpoint_, nullptr)->end_relay();
}

void Dial::on_closed() {
  socket_.reset();
  if (closing_) return events_->on_dial_closed();
  source_.may_start_work() ? connect() : source_.wait_for_turn(*this);
}

}  // namespace weir::proxy
