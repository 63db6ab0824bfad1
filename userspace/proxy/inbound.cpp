#include "proxy/inbound.h"

#include "detection/classify.h"
#include "proxy/tcp_relay.h"
#include "proxy/worker.h"

namespace weir::proxy {
namespace {

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

Inbound::Inbound(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, const Dialled& dialled)
    : Transport(worker, source, Opened::by_pod), socket_(std::move(socket)), dialled_(dialled) {
  socket_->set_events(*this);
  socket_->receive_once();
  worker.reactor().timers().schedule(timeout_, worker.reactor().now() + worker.options().detection_timeout);
}

Inbound::~Inbound() = default;

void Inbound::abort() {
  timeout_.cancel();
  socket_->close(true);
}

void Inbound::on_received(base::Slice bytes) {
  if (!seen_.empty()) {
    seen_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    bytes = base::Slice::copy_of(bytes_of(seen_));
  }
  // What can't become the preface any more is relayed at once, whatever it is going to be.
  if (!detection::may_be_http2(bytes.bytes())) return become_relay(bytes, false);
  if (detection::classify(bytes.bytes()) == detection::Protocol::http2) return become_downstream(bytes);
  seen_.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  socket_->receive_once();
}

void Inbound::on_receive_end(int error) {
  if (error != 0 || seen_.empty()) {  // nothing was said: nothing to carry over
    timeout_.cancel();
    return socket_->close();
  }
  become_relay(base::Slice::copy_of(bytes_of(seen_)), true);
}

void Inbound::timed_out(base::Instant) {
  // Perhaps a protocol in which the server speaks first. A receive is pending: it moves along.
  become_relay(base::Slice::copy_of(bytes_of(seen_)), false);
}

void Inbound::become_downstream(const base::Slice& first) {
  timeout_.cancel();
  worker().adopt(std::make_unique<Downstream>(worker(), source(), std::move(socket_), dialled_, first));
  removed();
}

void Inbound::become_relay(const base::Slice& first, bool client_ended) {
  timeout_.cancel();
  auto relay = std::make_unique<TcpRelay>(worker(), source(), std::move(socket_), dialled_, first, client_ended);
  TcpRelay& started = *relay;
  worker().adopt(std::move(relay));
  started.start();
  removed();
}

}  // namespace weir::proxy
