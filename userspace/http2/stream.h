// One stream of a Connection: its state (RFC 9113 section 5.1), its windows and
// its half of the sending. Receiving is driven by the connection, which owns the object and
// reuses it, so that a stream in steady state allocates nothing.
#pragma once

#include <optional>

#include "http/stream.h"
#include "http2/flow_control.h"
#include "http2/intrusive_list.h"
#include "http2/send_queue.h"

namespace weir::http2 {

class Connection;

struct InConnection;     // live, ended but still referenced, or free
struct InSendQueue;      // has body waiting: ready, or blocked by its own window
struct InWindowUpdates;  // owes the peer a WINDOW_UPDATE

class Stream final : public http::Stream,
                     public Hook<InConnection>,
                     public Hook<InSendQueue>,
                     public Hook<InWindowUpdates> {
 public:
  explicit Stream(Connection& connection) : connection_(connection) {}

  void send_headers(const http::Headers& headers, bool end_stream) override;
  size_t send_data(base::Slice data, bool end_stream) override;
  void send_trailers(const http::Headers& trailers) override;
  bool all_sent() const override { return queue_.empty(); }
  size_t unsent() const override { return queue_.bytes() + (trailers_waiting_ ? trailers_.bytes() : 0); }
  void consume(size_t bytes) override;
  void release(uint32_t error_code) override;

 private:
  friend class Connection;

  // Makes a free object a new stream. `receive_window`: the size we keep granted, and what the peer has now.
  void begin(uint32_t id, ReceiveWindow receive_window);
  // Frames up to `n` bytes of what waits, and the end or the trailers if they follow.
  void send_waiting(uint32_t n);
  bool may_send() const;
  bool complete() const { return local_ended_ && remote_ended_; }

  Connection& connection_;
  http::StreamEvents* events_ = nullptr;
  uint32_t id_ = 0;  // 0: client stream before send_headers()

  bool live_ = false;             // the user holds it
  bool local_end_given_ = false;  // by the user
  bool local_ended_ = false;      // END_STREAM framed
  bool remote_ended_ = false;     // END_STREAM received
  bool remote_head_ = false;      // the (final) head has been received
  bool body_forbidden_ = false;   // client: response to HEAD
  bool trailers_waiting_ = false;
  uint8_t informational_ = 0;  // client: 1xx responses received

  StreamSendWindow send_window_;
  ReceiveWindow receive_window_{0, 0};
  std::optional<uint64_t> body_left_;  // of the peer's content-length
  SendQueue queue_;
  http::Headers trailers_;
  uint64_t head_position_ = 0;         // in the connection's output
  size_t most_left_ = SIZE_MAX;        // of the queue at the next check of progress, once the end was given
  std::optional<http::Reset> untold_;  // the stream ended within on_stream(), before it had anyone to tell
};

}  // namespace weir::http2
