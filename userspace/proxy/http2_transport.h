// An http2::Connection on a socket: bytes from the socket go into the engine,
// and once a turn one gathered send takes out what the engine has to say. What comes when the
// pod has used up its turn waits in the inbox, and the socket is not read while that is full.
#pragma once

#include <memory>
#include <optional>

#include "http2/connection.h"
#include "http2/send_queue.h"
#include "io/socket.h"
#include "proxy/redirected.h"
#include "proxy/transport.h"
#include "proxy/worker_stats.h"

namespace weir::proxy {

class Http2Transport : public Transport, protected io::SocketEvents, protected http2::ConnectionEvents {
 public:
  ~Http2Transport() override;

  void tick(base::Instant now) override;
  void drain() override;
  void abort() override;
  void flush() override;

  http2::Connection& connection() { return connection_; }
  const http2::Connection& connection() const { return connection_; }

 protected:
  Http2Transport(Worker& worker, Source& source, std::unique_ptr<io::Socket> socket, http2::Role role);

  io::Socket& socket() { return *socket_; }
  // The connection's bytes go past TCP. Comes before start().
  void use_redirect(ReportRead report) { redirected_.emplace(connection_, std::move(report)); }
  // Begins to receive; `first` are bytes that were read before.
  void start(const base::Slice& first);
  // Gives the connection up: streams are reset, the socket closes.
  void fail(const char* reason);
  bool ended() const { return ended_; }
  // The connection has ended (for whatever reason); its streams are told in the pod's turns. `reason` is for people.
  virtual void on_ended(const char* reason) = 0;

  void on_connected(int error) override;
  void on_received(base::Slice bytes) override;
  void on_receive_end(int error) override;
  void on_sent(int result) override;
  void on_writable() override;
  void on_closed() override;
  void on_output() override;
  void on_limit(http2::Limit limit, http2::LimitAction action) override;
  void on_probe_returned() override;

 private:
  // Gives the engine what the pod's turn allows of `bytes`; returns how many that were.
  uint32_t take(const base::Slice& bytes);
  void take_inbox();
  void receive_more();
  void send_output();
  // Tells the source what waits here now.
  void account();
  bool stalled(base::Instant now);
  void begin_lingering_close();
  void end(const char* reason, uint32_t error_code = 0);
  void tell_streams();
  void close(const char* reason, bool abort = false, uint32_t error_code = 0);
  void linger_over(base::Instant now);

  std::unique_ptr<io::Socket> socket_;
  LimitCounters& limit_counters_;
  http2::Connection connection_;
  std::optional<Redirected> redirected_;
  http2::SendQueue inbox_;   // received, for a later turn
  std::optional<int> end_;   // what on_receive_end() said meanwhile
  int64_t accounted_ = 0;    // of held(): framed output and inbox
  uint64_t due_ = 0;         // up to this position of connection_.framed() ...
  base::Instant due_since_;  // ... bytes have been waiting for the socket since then
  io::MemberTimer<Http2Transport, &Http2Transport::linger_over> linger_{*this};
  bool started_ = false;    // the socket is connected and receives
  bool ended_ = false;      // on_ended() was called
  bool told_ = false;       // and all streams know it ...
  uint32_t end_code_ = 0;   // ... by a http::Reset with this error_code
  bool closed_ = false;     // the socket is gone
  bool sparing_ = false;    // receives a chunk at a time: some had to wait for a later turn, less than a tick ago
  bool lingering_ = false;  // all is written and FIN sent; waiting for the peer's FIN
};

}  // namespace weir::proxy
