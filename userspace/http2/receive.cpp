// Received bytes to frames. A frame other than DATA is handled when it is whole, in
// place if it arrived so; a DATA frame's payload is passed on as it comes.
#include <algorithm>
#include <cstring>

#include "http2/connection.h"

namespace weir::http2 {

uint32_t Connection::receive(const base::Slice& bytes, base::Instant now, uint64_t most_work) {
  Turn turn(*this);
  received_at_ = now;
  const uint64_t before = counters_.work();
  uint32_t at = 0;
  while (at < bytes.size() && !ended_ && counters_.work() - before < most_work) {
    const Bytes rest = bytes.bytes().subspan(at);
    size_t taken = 0;
    if (body_.left > 0) {
      taken = take_body(bytes, at);
    } else if (preface_left_ > 0) {
      taken = take_preface(rest);
    } else {
      taken = take_frame(rest);
    }
    at += static_cast<uint32_t>(taken);
  }
  if (ended_) return bytes.size();
  watch_unfinished(now);
  if (output_.size() > limits_.max_unwritten_output) {
    fail(Limit::unwritten_output,
         ConnectionError{ErrorCode::enhance_your_calm, "the peer makes us answer but does not read"});
  }
  return at;
}

size_t Connection::take_preface(Bytes bytes) {
  const size_t n = std::min(bytes.size(), preface_left_);
  if (std::memcmp(bytes.data(), kPreface.data() + kPreface.size() - preface_left_, n) != 0) {
    fail(ConnectionError{ErrorCode::protocol_error, "not an HTTP/2 connection preface"});
  }
  preface_left_ -= n;
  return n;
}

size_t Connection::take_frame(Bytes bytes) {
  const size_t had = partial_.size();
  if (had == 0 && bytes.size() >= kFrameHeaderSize) {
    const FrameHeader header = read_frame_header(bytes.data());
    if (!admit(header)) return bytes.size();
    const size_t whole = header.is(FrameType::data) ? kFrameHeaderSize : kFrameHeaderSize + header.length;
    if (bytes.size() >= whole) {
      handle(header, bytes.subspan(kFrameHeaderSize, whole - kFrameHeaderSize));
      return whole;
    }
    partial_.reserve(whole);
    partial_.assign(bytes.begin(), bytes.end());
    return bytes.size();
  }

  size_t taken = 0;
  const auto fill_up_to = [&](size_t size) {
    const size_t n = std::min(size - partial_.size(), bytes.size() - taken);
    const Bytes part = bytes.subspan(taken, n);
    partial_.insert(partial_.end(), part.begin(), part.end());
    taken += n;
    return partial_.size() == size;
  };
  if (had < kFrameHeaderSize) {
    if (!fill_up_to(kFrameHeaderSize)) return taken;
    if (!admit(read_frame_header(partial_.data()))) return taken;
  }
  const FrameHeader header = read_frame_header(partial_.data());
  const size_t whole = header.is(FrameType::data) ? kFrameHeaderSize : kFrameHeaderSize + header.length;
  partial_.reserve(whole);
  if (!fill_up_to(whole)) return taken;
  handle(header, Bytes(partial_).subspan(kFrameHeaderSize));
  partial_ = {};
  return taken;
}

bool Connection::admit(const FrameHeader& header) {
  ++counters_.frames_received;
  const auto reject = [&](ErrorCode code, const char* reason) {
    fail(ConnectionError{code, reason});
    return false;
  };
  if (header.length > limits_.max_frame_size) {
    return reject(ErrorCode::frame_size_error, "frame longer than SETTINGS_MAX_FRAME_SIZE");
  }
  if (!settings_received_ && (!header.is(FrameType::settings) || header.has(kFlagAck))) {
    return reject(ErrorCode::protocol_error, "the first frame is not SETTINGS");
  }
  if (block_.stream_id != 0 && (!header.is(FrameType::continuation) || header.stream_id != block_.stream_id)) {
    return reject(ErrorCode::protocol_error, "a header block was interrupted by another frame");
  }
  return true;
}

void Connection::handle(const FrameHeader& header, Bytes payload) {
  if (header.type < kFrameTypes) {
    (this->*kHandlers[header.type])(header, payload);
  } else {
    charge(Limit::ignored_frame_flood);  // unknown types (section 4.1)
  }
}

size_t Connection::take_body(const base::Slice& bytes, uint32_t at) {
  // Streams may go away in any callback, so each part looks its stream up.
  Stream* stream = body_.stream_id != 0 ? table_.find(body_.stream_id) : nullptr;
  if (body_.pad_length_due) {
    body_.pad_length_due = false;
    body_.padding = bytes.data()[at];
    --body_.left;
    if (body_.padding > body_.left) {
      fail(ConnectionError{ErrorCode::protocol_error, "DATA with more padding than payload"});
      return 1;
    }
    // Nobody else will give padding back.
    if (stream) give_back(*stream, size_t{1} + body_.padding);
    if (body_.padding == body_.left && !body_.end_stream) {
      charge(Limit::empty_data_flood);
    } else if (stream && body_.left == 0) {
      deliver(*stream, base::Slice(), true);
    }
    return 1;
  }
  const uint32_t there = bytes.size() - at;
  if (body_.left > body_.padding) {
    const uint32_t n = std::min(there, body_.left - body_.padding);
    body_.left -= n;
    if (stream) deliver(*stream, bytes.sub(at, n), body_.end_stream && body_.left == 0);
    return n;
  }
  const uint32_t n = std::min(there, body_.left);
  body_.left -= n;
  body_.padding -= n;
  if (stream && body_.left == 0 && body_.end_stream) deliver(*stream, base::Slice(), true);
  return n;
}

void Connection::deliver(Stream& stream, base::Slice data, bool end_stream) {
  if (stream.body_left_) {
    const bool too_much = data.size() > *stream.body_left_;
    if (too_much || (end_stream && data.size() < *stream.body_left_)) {
      return fail(StreamError{stream.id_, ErrorCode::protocol_error, "the body's size is not its content-length"});
    }
    *stream.body_left_ -= data.size();
  }
  if (data.empty() && !end_stream) {
    charge(Limit::empty_data_flood);
    return;
  }
  stream.remote_ended_ = end_stream;
  stream.events_->on_data(std::move(data), end_stream);
}

void Connection::watch_unfinished(base::Instant now) {
  uint64_t frame = 0;
  if (block_.stream_id != 0) {
    frame = block_.first_frame;
  } else if (!partial_.empty()) {
    // Counted by admit() once its header is whole.
    frame = partial_.size() < kFrameHeaderSize ? counters_.frames_received + 1 : counters_.frames_received;
  }
  if (frame != unfinished_frame_) {
    unfinished_frame_ = frame;
    unfinished_since_ = now;
  }
}

}  // namespace weir::http2
