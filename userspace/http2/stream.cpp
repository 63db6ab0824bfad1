#include "http2/stream.h"

#include "http2/connection.h"

namespace weir::http2 {

void Stream::begin(uint32_t id, ReceiveWindow receive_window) {
  events_ = nullptr;
  id_ = id;
  live_ = true;
  local_end_given_ = local_ended_ = remote_ended_ = remote_head_ = body_forbidden_ = trailers_waiting_ = false;
  send_window_ = StreamSendWindow();
  receive_window_ = receive_window;
  body_left_.reset();
  untold_.reset();
  head_position_ = 0;
  most_left_ = SIZE_MAX;
  informational_ = 0;
}

bool Stream::may_send() const { return live_ && !local_end_given_ && !connection_.closed_; }

void Stream::send_headers(const http::Headers& headers, bool end_stream) {
  if (!may_send()) return;
  if (id_ == 0) {
    connection_.assign_id(*this);
    body_forbidden_ = headers.get(":method") == "HEAD";
  }
  connection_.write_headers(id_, headers, end_stream);
  local_end_given_ = local_ended_ = end_stream;
}

size_t Stream::send_data(base::Slice data, bool end_stream) {
  if (live_ && connection_.closed_) return data.size();  // dropped
  if (!may_send() || id_ == 0) return 0;
  local_end_given_ = end_stream;
  size_t sent = 0;
  if (queue_.empty()) {
    for (;;) {
      const uint32_t n = connection_.sendable(*this, data.size());
      const bool last = n == data.size();
      if (n == 0 && !(last && end_stream)) break;
      connection_.use_send_windows(*this, n);
      sent += n;
      if (last) {
        local_ended_ = end_stream;
        connection_.write_data(id_, std::move(data), end_stream);
        return sent;
      }
      connection_.write_data(id_, data.sub(0, n), false);
      data.remove_prefix(n);
    }
  }
  connection_.waiting_ += data.size();
  queue_.push(std::move(data));
  if (!queue_.empty()) connection_.await_window(*this);
  return sent;
}

void Stream::send_trailers(const http::Headers& trailers) {
  if (!may_send() || id_ == 0) return;
  local_end_given_ = true;
  if (!queue_.empty()) {
    trailers_ = trailers;
    trailers_waiting_ = true;
    return;
  }
  connection_.write_trailers(*this, trailers);
}

void Stream::send_waiting(uint32_t n) {
  connection_.use_send_windows(*this, n);
  const bool last = n == queue_.bytes();
  local_ended_ = last && local_end_given_ && !trailers_waiting_;
  connection_.write_data_header(id_, n, local_ended_);
  queue_.move_to(connection_.output_, n);
  connection_.waiting_ -= n;
  if (last && trailers_waiting_) {
    trailers_waiting_ = false;
    connection_.write_trailers(*this, trailers_);
  }
  events_->on_sent(n);
}

void Stream::consume(size_t bytes) {
  if (live_) connection_.give_back(*this, bytes);
}

void Stream::release(uint32_t error_code) {
  untold_.reset();
  if (!live_) return;
  if (id_ != 0 && !complete() && !connection_.closed_) {
    // A server that has answered in full doesn't need the rest of the request (RFC 9113 section 8.1).
    const bool answered = connection_.role_ == Role::server && local_ended_;
    connection_.write_reset(id_, answered ? ErrorCode::no_error : static_cast<ErrorCode>(error_code));
  }
  connection_.let_go(*this, remote_ended_ ? Ending::ended_by_peer : Ending::reset_by_us);
}

}  // namespace weir::http2
