#include "proxy/inbound.h"

#include "proxy/tcp_relay.h"
#include "proxy/worker.h"

namespace weir::proxy {

using detection::Verdict;

Inbound::Inbound(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, const Dialled& dialled)
    : Transport(worker, source, Opened::by_pod), socket_(std::move(socket)), dialled_(dialled) {
  socket_->set_events(*this);
}

Inbound::~Inbound() = default;

void Inbound::start() {
  socket_->receive_once();
  worker().reactor().timers().schedule(timeout_, worker().reactor().now() + worker().options().detection_timeout);
  if (dialled_.mode != config::Mode::detect) return;
  dial_ = std::make_unique<Dial>(worker(), source(), dialled_);
  dial_->set_events(*this);
  // An endpoint that has sent SETTINGS is not one that greets its clients otherwise. And where there is room for no
  // other connection, a client that speaks HTTP/2 shares one that there is: it may say so first.
  const ClusterPool* pool = dial_->pool();
  if (!pool || (!pool->speaks_http2() && pool->may_open())) dial_->start();
}

void Inbound::abort() {
  if (!socket_ || socket_->closing()) return;
  timeout_.cancel();
  leave();
  dial_closing_ = dial_ && dial_->close(true);
  socket_->close(true);
}

void Inbound::on_received(base::Slice bytes) {
  said_.add(std::move(bytes));
  // What can't become the preface any more is relayed at once, whatever it is going to be.
  if (!detection::may_be_http2(said_.bytes.bytes())) return become_relay(detection::verdict_of(said_.bytes.bytes()));
  if (detection::classify(said_.bytes.bytes()) == detection::Protocol::http2) return become_downstream();
  said_.own();
  socket_->receive_once();
}

void Inbound::on_receive_end(int error) {
  said_.ended = true;
  said_.error = error;
  if (!dial_ && (error != 0 || said_.bytes.empty())) {  // nothing was said: nothing to carry over
    timeout_.cancel();
    leave();
    return socket_->close();
  }
  become_relay(Verdict::silent);
}

// With nothing said by either, it is perhaps a protocol in which the client waits long.
void Inbound::timed_out(base::Instant) { become_relay(Verdict::silent); }

void Inbound::on_dialled() { dial_->listen(); }

void Inbound::on_server_spoke() {
  const Said& server = dial_->said();
  if (server.ended || !detection::may_be_settings(server.bytes.bytes())) {
    return become_relay(server.bytes.empty() ? Verdict::silent : Verdict::server_first);
  }
  // Perhaps HTTP/2: the client's preface is on its way.
  hold(static_cast<int64_t>(server.bytes.size()) - held());
  if (!detection::begins_with_settings(server.bytes.bytes())) dial_->listen();
}

void Inbound::on_dial_failed(telemetry::Flags flags) { become_relay(Verdict::silent, flags); }

void Inbound::become_downstream() {
  timeout_.cancel();
  source().detected(dialled_, Verdict::http2);
  if (dial_) {
    EndpointPool* endpoint = dial_->endpoint();
    if (endpoint && (dial_->connected() || dial_->connecting()) && endpoint->wants_connection()) {
      const bool connected = dial_->connected();
      endpoint->adopt(dial_->take_socket(), connected, dial_->said().bytes);
    }
    dial_closing_ = dial_->close(false);
  }
  leave();
  worker().adopt(std::make_unique<Downstream>(worker(), source(), std::move(socket_), dialled_, said_.bytes));
  remove_if_closed();
}

void Inbound::become_relay(Verdict verdict, telemetry::Flags failure) {
  timeout_.cancel();
  source().detected(dialled_, verdict);
  if (!dial_) dial_ = std::make_unique<Dial>(worker(), source(), dialled_);
  auto relay = std::make_unique<TcpRelay>(worker(), source(), std::move(socket_), dialled_, said_, std::move(dial_));
  TcpRelay& started = *relay;
  worker().adopt(std::move(relay));
  started.start(failure);
  removed();
}

// It may have to wait for its sockets, but holds nothing any more that somebody could be shed for.
void Inbound::leave() {
  hold(-held());
  set_leaving();
}

void Inbound::on_closed() {
  socket_.reset();
  remove_if_closed();
}

void Inbound::on_dial_closed() {
  dial_closing_ = false;
  remove_if_closed();
}

void Inbound::remove_if_closed() {
  if (!socket_ && !dial_closing_) removed();
}

}  // namespace weir::proxy
