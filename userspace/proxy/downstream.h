// Downstream: an HTTP/2 connection that an application in an enrolled pod opened.
// Each of its streams becomes an Exchange.
#pragma once

#include <memory>

#include "base/address.h"
#include "config/snapshot.h"
#include "proxy/http2_transport.h"

namespace weir::proxy {

// What an accepted connection was for.
struct Dialled {
  base::SocketAddress address;           // VIP:port that the application dialled
  base::SocketAddress client;            // the application's own address, as it sees it
  config::Mode mode = config::Mode::l7;  // as which it was diverted
  base::Instant accepted{};
};

class Downstream final : public Http2Transport {
 public:
  // `first`: what has been read from the socket, beginning with the HTTP/2 preface.
  Downstream(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, const Dialled& dialled,
             const base::Slice& first);
  ~Downstream() override;

  const Dialled& dialled() const { return dialled_; }

 private:
  http::StreamEvents* on_stream(http::Stream& stream) override;
  void on_capacity() override {}
  void on_ended(const char* reason) override;

  Dialled dialled_;
};

}  // namespace weir::proxy
