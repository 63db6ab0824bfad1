// What each type of frame does to the connection and its streams (RFC 9113 section 6).
#include <algorithm>
#include <utility>

#include "http2/connection.h"

namespace weir::http2 {

const std::array<Connection::Handler, kFrameTypes> Connection::kHandlers = {
    &Connection::on_data,           //
    &Connection::on_headers,        //
    &Connection::on_priority,       //
    &Connection::on_rst_stream,     //
    &Connection::on_settings,       //
    &Connection::on_push_promise,   //
    &Connection::on_ping,           //
    &Connection::on_goaway,         //
    &Connection::on_window_update,  //
    &Connection::on_continuation,
};

void Connection::on_data(const FrameHeader& header, Bytes) {
  if (idle(header.stream_id)) {
    return fail(ConnectionError{ErrorCode::protocol_error, "DATA on stream 0 or an idle stream"});
  }
  if (header.has(kFlagPadded) && header.length == 0) {
    return fail(ConnectionError{ErrorCode::frame_size_error, "DATA without its pad length"});
  }
  if (!receive_window_.receive(header.length)) {
    return fail(ConnectionError{ErrorCode::flow_control_error, "DATA beyond the connection's window"});
  }
  body_ = Body{header.length, 0, header.stream_id, header.has(kFlagEndStream), header.has(kFlagPadded)};

  Stream* stream = table_.find(header.stream_id);
  if (!stream || !stream->receive_window_.receive(header.length)) {
    body_.stream_id = 0;
    give_back(header.length);
    if (!stream) {
      if (header.length == 0 && !charge(Limit::ignored_frame_flood)) return;
      return late_frame(header.stream_id);
    }
    return fail(StreamError{header.stream_id, ErrorCode::flow_control_error, "DATA beyond the stream's window"});
  }
  if (stream->remote_ended_) {
    return fail(StreamError{header.stream_id, ErrorCode::stream_closed, "DATA after END_STREAM"});
  }
  if (!stream->remote_head_) {
    return fail(StreamError{header.stream_id, ErrorCode::protocol_error, "DATA before the response's head"});
  }
  if (header.length == 0) deliver(*stream, base::Slice(), body_.end_stream);
}

void Connection::on_headers(const FrameHeader& header, Bytes payload) {
  HeadersFrame frame;
  if (const Flaw flaw = decode_headers(header, payload, frame)) return fail(*flaw);
  const bool may_open = role_ == Role::server && header.stream_id % 2 == 1;
  if (!may_open && idle(header.stream_id)) {
    return fail(ConnectionError{ErrorCode::protocol_error, "HEADERS on a stream that this peer can't open"});
  }
  block_ = Block{header.stream_id, 0, counters_.frames_received, header.has(kFlagEndStream),
                 frame.priority && frame.priority->depends_on == header.stream_id};
  if (frame.fragment.size() > limits_.max_header_block_size) return header_block_too_large();
  if (header.has(kFlagEndHeaders)) return end_block(frame.fragment);
  block_bytes_.assign(frame.fragment.begin(), frame.fragment.end());
}

void Connection::header_block_too_large() {
  fail(Limit::header_block_size, ConnectionError{ErrorCode::enhance_your_calm, "a header block of too many bytes"});
}

void Connection::on_continuation(const FrameHeader& header, Bytes payload) {
  if (block_.stream_id == 0) {
    return fail(ConnectionError{ErrorCode::protocol_error, "CONTINUATION without HEADERS"});
  }
  if (++block_.continuations > limits_.max_continuation_frames) {
    return fail(Limit::continuation_flood,
                ConnectionError{ErrorCode::enhance_your_calm, "a header block in too many frames"});
  }
  if (block_bytes_.size() + payload.size() > limits_.max_header_block_size) return header_block_too_large();
  block_bytes_.insert(block_bytes_.end(), payload.begin(), payload.end());
  if (!header.has(kFlagEndHeaders)) return;
  const pool::Vector<uint8_t> block = std::exchange(block_bytes_, {});
  end_block(block);
}

void Connection::on_priority(const FrameHeader& header, Bytes payload) {
  if (!charge(Limit::priority_flood)) return;
  if (header.stream_id == 0) {
    return fail(ConnectionError{ErrorCode::protocol_error, "PRIORITY on stream 0"});
  }
  if (payload.size() != kPrioritySize) {
    return fail(StreamError{header.stream_id, ErrorCode::frame_size_error, "PRIORITY of a length other than 5"});
  }
  if (read_priority(payload.data()).depends_on == header.stream_id) {
    fail(StreamError{header.stream_id, ErrorCode::protocol_error, "a stream that depends on itself"});
  }
}

void Connection::on_rst_stream(const FrameHeader& header, Bytes payload) {
  if (const Flaw flaw = check_rst_stream(header)) return fail(*flaw);
  if (idle(header.stream_id)) {
    return fail(ConnectionError{ErrorCode::protocol_error, "RST_STREAM on an idle stream"});
  }
  ++counters_.streams_reset_by_peer;
  if (!charge(Limit::rapid_reset)) return;
  Stream* stream = table_.find(header.stream_id);
  if (!stream || stream->complete()) return;
  const auto code = static_cast<ErrorCode>(read_u32(payload.data()));
  end_stream(*stream,
             http::Reset{http::Reset::Origin::peer, static_cast<uint32_t>(code), code == ErrorCode::refused_stream});
}

void Connection::on_settings(const FrameHeader& header, Bytes payload) {
  if (!charge(Limit::settings_flood)) return;
  if (payload.size() > limits_.max_settings * kSettingSize) {
    return fail(Limit::settings_size, ConnectionError{ErrorCode::enhance_your_calm, "too many settings in one frame"});
  }
  if (const Flaw flaw = check_settings(header, payload)) return fail(*flaw);
  if (header.has(kFlagAck)) return settings_acknowledged();
  const bool first = !std::exchange(settings_received_, true);
  if (first) waiting_since_ = received_at_;
  const bool had_capacity = can_open();
  for (size_t at = 0; at < payload.size(); at += kSettingSize) {
    if (!apply(read_setting(payload.data() + at))) return;
  }
  write_frame(FrameType::settings, kFlagAck, 0, {});
  if (first || (!had_capacity && can_open())) announce_capacity();
}

bool Connection::apply(const SettingValue& setting) {
  switch (static_cast<Setting>(setting.id)) {
    case Setting::header_table_size:
      encoder_.set_peer_table_size(setting.value);
      break;
    case Setting::enable_push:
      if (role_ == Role::client && setting.value != 0) {
        fail(ConnectionError{ErrorCode::protocol_error, "a server that sets SETTINGS_ENABLE_PUSH"});
        return false;
      }
      break;
    case Setting::max_concurrent_streams:
      peer_max_concurrent_streams_ = setting.value;
      break;
    case Setting::initial_window_size:
      return change_initial_window(setting.value);
    case Setting::max_frame_size:
      peer_max_frame_size_ = setting.value;
      break;
    case Setting::max_header_list_size:
      break;  // advisory (section 6.5.2): what the other side sent is passed on as it is
  }
  return true;
}

bool Connection::change_initial_window(uint32_t size) {
  if (size + highest_credit_ > int64_t{kMaxWindow}) {
    // The bound may be stale: streams that had such a credit are gone.
    highest_credit_ = 0;
    for (Stream* stream = live_.first(); stream; stream = live_.next(*stream)) {
      highest_credit_ = std::max(highest_credit_, stream->send_window_.credit());
    }
    if (size + highest_credit_ > int64_t{kMaxWindow}) {
      fail(ConnectionError{ErrorCode::flow_control_error, "SETTINGS_INITIAL_WINDOW_SIZE overflows a stream's window"});
      return false;
    }
  }
  const bool grew = size > peer_initial_window_;
  peer_initial_window_ = size;
  if (grew && !blocked_.empty()) {
    ready_.splice_back(blocked_);
    announce_output();
  }
  return true;
}

void Connection::settings_acknowledged() {
  if (std::exchange(settings_acknowledged_, true)) return;
  if (limits_.header_table_size < kDefaultTableSize) decoder_.set_table_size(limits_.header_table_size);
  if (limits_.initial_stream_window >= kDefaultWindow) return;
  for (Stream* stream = live_.first(); stream; stream = live_.next(*stream)) {
    stream->receive_window_.shrink(kDefaultWindow - limits_.initial_stream_window);
  }
}

void Connection::on_push_promise(const FrameHeader&, Bytes) {
  // A client must not send it, and a server may not: we say ENABLE_PUSH 0 (section 6.6).
  fail(ConnectionError{ErrorCode::protocol_error, "PUSH_PROMISE"});
}

void Connection::on_ping(const FrameHeader& header, Bytes payload) {
  if (!charge(Limit::ping_flood)) return;
  if (const Flaw flaw = check_ping(header)) return fail(*flaw);
  if (header.has(kFlagAck)) return drain_ping_returned(payload);
  write_frame(FrameType::ping, kFlagAck, 0, payload);
}

void Connection::on_goaway(const FrameHeader& header, Bytes payload) {
  GoawayFrame frame;
  if (!charge(Limit::goaway_flood)) return;
  if (const Flaw flaw = decode_goaway(header, payload, frame)) return fail(*flaw);
  goaway_received_ = true;
  if (role_ == Role::server) return;
  if (frame.last_stream_id > last_goaway_id_) {
    return fail(ConnectionError{ErrorCode::protocol_error, "a GOAWAY that raises the last stream id"});
  }
  last_goaway_id_ = frame.last_stream_id;
  // First all of them out of reach of the callbacks' releases of others, then the telling.
  List<Stream, InConnection> unprocessed;
  for (Stream* stream = live_.first(); stream;) {
    Stream* next = live_.next(*stream);
    if (stream->id_ == 0 || stream->id_ > frame.last_stream_id) {
      static_cast<Hook<InConnection>*>(stream)->unlink();
      unprocessed.push_back(*stream);
    }
    stream = next;
  }
  while (!unprocessed.empty()) {
    end_stream(unprocessed.front(), http::Reset{http::Reset::Origin::peer, static_cast<uint32_t>(frame.code), true});
  }
  announce_capacity();
}

void Connection::on_window_update(const FrameHeader& header, Bytes payload) {
  if (!charge(Limit::window_update_flood)) return;
  if (const Flaw flaw = check_window_update(header)) return fail(*flaw);
  const uint32_t increment = read_u32(payload.data()) & kMaxWindow;
  if (increment < kDribble && body_waits(header.stream_id) && !charge(Limit::window_dribble)) return;
  if (header.stream_id == 0) {
    if (increment == 0) {
      return fail(ConnectionError{ErrorCode::protocol_error, "WINDOW_UPDATE by 0 on the connection"});
    }
    if (!send_window_.add(increment)) {
      return fail(ConnectionError{ErrorCode::flow_control_error, "WINDOW_UPDATE overflows the connection's window"});
    }
    if (!ready_.empty()) announce_output();
    return;
  }
  if (idle(header.stream_id)) {
    return fail(ConnectionError{ErrorCode::protocol_error, "WINDOW_UPDATE on an idle stream"});
  }
  Stream* stream = table_.find(header.stream_id);
  if (!stream) return;
  if (increment == 0) {
    return fail(StreamError{header.stream_id, ErrorCode::protocol_error, "WINDOW_UPDATE by 0"});
  }
  if (!stream->send_window_.add(increment, peer_initial_window_)) {
    return fail(StreamError{header.stream_id, ErrorCode::flow_control_error, "WINDOW_UPDATE overflows the window"});
  }
  highest_credit_ = std::max(highest_credit_, stream->send_window_.credit());
  if (!stream->queue_.empty()) await_window(*stream);
}

}  // namespace weir::http2
