// Frames to send: the writers of each type, and the turns in which waiting bodies are framed.
#include <algorithm>
#include <cstring>

#include "http2/connection.h"

namespace weir::http2 {

void Connection::announce_output() {
  if (output_announced_ || closed_) return;
  output_announced_ = true;
  events_.on_output();
}

void Connection::announce_capacity() {
  if (role_ == Role::client) events_.on_capacity();
}

bool Connection::wants_write() const {
  return !closed_ && (output_announced_ || !output_.empty() || may_frame_bodies() ||
                      (!ended_ && (receive_window_.update_due() || !window_updates_.empty())));
}

size_t Connection::gather(std::span<iovec> out) {
  output_announced_ = false;
  if (closed_) return 0;
  Turn turn(*this);
  if (!ended_) {
    write_window_updates();
    frame_waiting();
  }
  return output_.gather(out);
}

void Connection::written(size_t bytes) { output_.written(bytes); }

bool Connection::may_frame_bodies() const {
  return !ready_.empty() && send_window_.left() > 0 && output_.size() < kOutputBudget;
}

bool Connection::body_waits(uint32_t stream_id) const {
  if (stream_id == 0) return !ready_.empty();
  const Stream* stream = table_.find(stream_id);
  return stream && !stream->queue_.empty();
}

// Round robin: each stream that may send has one frame a turn.
void Connection::frame_waiting() {
  while (may_frame_bodies()) {
    Stream& stream = ready_.pop_front();
    const int64_t most = std::min({stream.send_window_.left(peer_initial_window_), send_window_.left(),
                                   int64_t{peer_max_frame_size_}, static_cast<int64_t>(stream.queue_.bytes())});
    if (most <= 0) {
      blocked_.push_back(stream);
      continue;
    }
    if (static_cast<size_t>(most) < stream.queue_.bytes()) ready_.push_back(stream);
    stream.send_waiting(static_cast<uint32_t>(most));
  }
}

uint32_t Connection::sendable(const Stream& stream, size_t wanted) const {
  // Who already waits goes first.
  if (!ready_.empty() || output_.size() >= kOutputBudget) return 0;
  const int64_t most = std::min({stream.send_window_.left(peer_initial_window_), send_window_.left(),
                                 int64_t{peer_max_frame_size_}, static_cast<int64_t>(wanted)});
  return static_cast<uint32_t>(std::max<int64_t>(most, 0));
}

void Connection::use_send_windows(Stream& stream, uint32_t bytes) {
  send_window_.use(bytes);
  stream.send_window_.use(bytes);
}

// `stream` has body waiting: puts it where it is found when it may be sent.
void Connection::await_window(Stream& stream) {
  Hook<InSendQueue>& hook = stream;
  if (stream.send_window_.left(peer_initial_window_) > 0) {
    hook.unlink();
    ready_.push_back(stream);
    if (may_frame_bodies()) announce_output();
  } else if (!hook.linked()) {
    blocked_.push_back(stream);
  }
}

void Connection::give_back(Stream& stream, size_t bytes) {
  give_back(stream.receive_window_.consume(bytes));
  Hook<InWindowUpdates>& hook = stream;
  if (hook.linked() || stream.remote_ended_ || !stream.receive_window_.update_due()) return;
  window_updates_.push_back(stream);
  announce_output();
}

void Connection::give_back(size_t bytes) {
  receive_window_.consume(bytes);
  if (receive_window_.update_due()) announce_output();
}

void Connection::lend() {
  if (ended_) return;
  receive_window_.lend();
  if (receive_window_.update_due()) announce_output();
}

void Connection::write_window_updates() {
  if (receive_window_.update_due()) write_u32_frame(FrameType::window_update, 0, receive_window_.take_update());
  while (!window_updates_.empty()) {
    Stream& stream = window_updates_.pop_front();
    if (stream.remote_ended_) continue;
    write_u32_frame(FrameType::window_update, stream.id_, stream.receive_window_.take_update());
  }
}

void Connection::write_preface() {
  std::array<uint8_t, 8 * kSettingSize> payload;
  size_t size = 0;
  const auto add = [&](Setting id, uint32_t value) {
    payload[size] = 0;
    payload[size + 1] = static_cast<uint8_t>(id);
    write_u32(payload.data() + size + 2, value);
    size += kSettingSize;
  };
  if (role_ == Role::client) {
    std::memcpy(output_.reserve(kPreface.size()), kPreface.data(), kPreface.size());
    output_.commit(kPreface.size());
    add(Setting::enable_push, 0);
  } else {
    add(Setting::max_concurrent_streams, limits_.max_concurrent_streams);
  }
  add(Setting::header_table_size, limits_.header_table_size);
  add(Setting::initial_window_size, limits_.initial_stream_window);
  add(Setting::max_frame_size, limits_.max_frame_size);
  add(Setting::max_header_list_size, limits_.max_header_list_size);
  output_announced_ = true;  // the constructor makes no callbacks
  write_frame(FrameType::settings, 0, 0, Bytes(payload).first(size));
  const uint32_t more = limits_.connection_window - kDefaultWindow;
  if (more > 0) write_u32_frame(FrameType::window_update, 0, more);
  output_announced_ = false;
}

void Connection::write_frame(FrameType type, uint8_t flags, uint32_t stream_id, Bytes payload) {
  uint8_t* out = output_.reserve(kFrameHeaderSize + payload.size());
  write_frame_header(out, payload.size(), type, flags, stream_id);
  std::copy(payload.begin(), payload.end(), out + kFrameHeaderSize);
  output_.commit(kFrameHeaderSize + payload.size());
  announce_output();
}

void Connection::write_u32_frame(FrameType type, uint32_t stream_id, uint32_t value) {
  std::array<uint8_t, 4> payload;
  write_u32(payload.data(), value);
  write_frame(type, 0, stream_id, payload);
}

void Connection::write_headers(uint32_t stream_id, const http::Headers& headers, bool end_stream) {
  const uint8_t end = end_stream ? kFlagEndStream : 0;
  const size_t most = encoder_.prepare(headers);
  if (most <= std::min<size_t>(peer_max_frame_size_, Output::kChunkCapacity - kFrameHeaderSize)) {
    // Encoded where it is sent from; the frame header is filled in when the size is known.
    uint8_t* out = output_.reserve(kFrameHeaderSize + most);
    const size_t size = encoder_.encode(out + kFrameHeaderSize, most);
    write_frame_header(out, size, FrameType::headers, end | kFlagEndHeaders, stream_id);
    output_.commit(kFrameHeaderSize + size);
    return announce_output();
  }
  pool::Vector<uint8_t> block(most);
  block.resize(encoder_.encode(block.data(), most));
  Bytes rest(block);
  const size_t part_size = std::min<size_t>(peer_max_frame_size_, Output::kChunkCapacity - kFrameHeaderSize);
  for (FrameType type = FrameType::headers;; type = FrameType::continuation) {
    const Bytes part = rest.first(std::min(rest.size(), part_size));
    rest = rest.subspan(part.size());
    const uint8_t flags = type == FrameType::headers ? end : 0;
    write_frame(type, rest.empty() ? flags | kFlagEndHeaders : flags, stream_id, part);
    if (rest.empty()) return;
  }
}

void Connection::write_trailers(Stream& stream, const http::Headers& trailers) {
  stream.local_ended_ = true;
  // An empty header block says no more than an empty DATA frame, which every peer understands.
  if (trailers.empty()) return write_data(stream.id_, base::Slice(), true);
  write_headers(stream.id_, trailers, true);
}

void Connection::write_data_header(uint32_t stream_id, size_t length, bool end_stream) {
  write_frame_header(output_.reserve(kFrameHeaderSize), length, FrameType::data, end_stream ? kFlagEndStream : 0,
                     stream_id);
  output_.commit(kFrameHeaderSize);
  earn_by_data_frame();
  announce_output();
}

void Connection::write_data(uint32_t stream_id, base::Slice data, bool end_stream) {
  write_data_header(stream_id, data.size(), end_stream);
  output_.append(std::move(data));
}

void Connection::write_reset(uint32_t stream_id, ErrorCode code) {
  ++counters_.streams_reset_by_us;
  write_u32_frame(FrameType::rst_stream, stream_id, static_cast<uint32_t>(code));
}

void Connection::write_goaway(uint32_t last_stream_id, ErrorCode code) {
  // The reason goes along as debug data: it is what clients print.
  const std::string_view reason = error_;
  std::array<uint8_t, 128> payload;
  write_u32(payload.data(), last_stream_id);
  write_u32(payload.data() + 4, static_cast<uint32_t>(code));
  const size_t n = std::min(reason.size(), payload.size() - 8);
  std::memcpy(payload.data() + 8, reason.data(), n);
  write_frame(FrameType::goaway, 0, 0, Bytes(payload).first(8 + n));
}

}  // namespace weir::http2
