#include "proxy/downstream.h"

#include "proxy/exchange.h"
#include "proxy/worker.h"

namespace weir::proxy {

Downstream::Downstream(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, const Dialled& dialled,
                       const base::Slice& first)
    : Http2Transport(worker, source, std::move(socket), http2::Role::server), dialled_(dialled) {
  ++worker.stats().downstream_connections;
  ++worker.stats().downstream_connections_total;
  if (const auto& redirected = worker.options().redirected) {
    if (ReportRead report = redirected(this->socket().fd())) use_redirect(std::move(report));
  }
  start(first);
  if (worker.draining()) drain();
}

Downstream::~Downstream() { --worker().stats().downstream_connections; }

http::StreamEvents* Downstream::on_stream(http::Stream& stream) {
  Exchange& exchange = worker().exchanges().take(worker());
  exchange.begin(*this, stream);
  return &exchange.downstream_events();
}

void Downstream::on_ended(const char*) {
  if (connection().error()[0] == '\0') return;
  ++worker().stats().downstream_protocol_errors;
  source().complain("connection to " + dialled_.address.to_string() + " ended: " + connection().error());
}

}  // namespace weir::proxy
