#include "http2/connection.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace weir::http2 {
namespace {

constexpr std::array<uint8_t, 8> kDrainPing = {'w', 'e', 'i', 'r', 'd', 'r', 'n', '1'};

Limits sane(Limits limits) {
  limits.max_frame_size = std::clamp(limits.max_frame_size, kSmallestMaxFrameSize, kLargestMaxFrameSize);
  limits.initial_stream_window = std::min(limits.initial_stream_window, kMaxWindow);
  limits.connection_window = std::clamp(limits.connection_window, kDefaultWindow, kMaxWindow);
  return limits;
}

}  // namespace

Connection::Connection(Role role, const Limits& limits, ConnectionEvents& events, base::Instant now)
    : role_(role),
      limits_(sane(limits)),
      events_(events),
      preface_left_(role == Role::server ? kPreface.size() : 0),
      decoder_(limits_.header_table_size),
      receive_window_(limits_.connection_window, limits_.connection_window),
      encoder_(limits_.header_table_size),
      waiting_since_(now),
      received_at_(now),
      progress_checked_(now) {
  write_preface();
}

Connection::~Connection() {
  for (List<Stream, InConnection>* list : {&live_, &ended_streams_, &free_}) {
    while (!list->empty()) delete &list->pop_front();
  }
}

void Connection::tick(base::Instant now) {
  Turn turn(*this);
  received_at_ = now;
  trim_free_streams();
  if (ended_) return;
  if (!settings_acknowledged_ && now - waiting_since_ >= limits_.settings_timeout) {
    return fail(Limit::settings_timeout,
                ConnectionError{ErrorCode::settings_timeout,
                                settings_received_ ? "our SETTINGS were not acknowledged" : "no SETTINGS arrived"});
  }
  if (unfinished_frame_ != 0 && now - unfinished_since_ >= limits_.frame_timeout) {
    return fail(block_.stream_id != 0 ? Limit::header_block_timeout : Limit::frame_timeout,
                ConnectionError{ErrorCode::enhance_your_calm, "a frame or header block was not finished in time"});
  }
  check_progress();
  if (ended_) return;
  if (drain_ == Drain::probing && now - draining_since_ >= limits_.drain_timeout) announce_last_stream();
}

void Connection::drain() {
  if (ended_ || drain_ != Drain::none) return;
  Turn turn(*this);
  if (role_ == Role::client) {
    drain_ = Drain::announced;
    write_goaway(0, ErrorCode::no_error);
    return announce_capacity();
  }
  // Streams that are on their way are still accepted; the ACK shows that the peer opens no more (section 6.8).
  drain_ = Drain::probing;
  draining_since_ = received_at_;
  write_goaway(kMaxStreamId, ErrorCode::no_error);
  write_frame(FrameType::ping, 0, 0, kDrainPing);
}

size_t Connection::probe(uint64_t payload) {
  if (ended_) return output_.size();
  std::array<uint8_t, sizeof payload> bytes;
  std::memcpy(bytes.data(), &payload, sizeof payload);
  probe_ = payload;
  write_frame(FrameType::ping, 0, 0, bytes);
  return output_.size();
}

void Connection::ping_returned(Bytes payload) {
  if (drain_ == Drain::probing && std::equal(payload.begin(), payload.end(), kDrainPing.begin())) {
    return announce_last_stream();
  }
  if (!probe_ || std::memcmp(payload.data(), &*probe_, sizeof *probe_) != 0) return;
  probe_.reset();
  events_.on_probe_returned();
}

void Connection::announce_last_stream() {
  drain_ = Drain::announced;
  write_goaway(highest_processed_, ErrorCode::no_error);
}

void Connection::abort(uint32_t error_code) {
  if (ended_) return;
  Turn turn(*this);
  ended_ = true;
  write_goaway(highest_processed_, static_cast<ErrorCode>(error_code));
  end_streams(http::Reset{http::Reset::Origin::connection, error_code, false});
  announce_capacity();
}

bool Connection::closed(uint32_t error_code, uint32_t most_streams) {
  Turn turn(*this);
  closed_ = true;
  const bool first = !std::exchange(ended_, true);
  end_streams(http::Reset{http::Reset::Origin::connection, error_code, false}, most_streams);
  if (first) announce_capacity();
  return live_.empty();
}

bool Connection::usable() const {
  return !ended_ && drain_ == Drain::none &&
         (role_ == Role::server || (!goaway_received_ && next_id_ + 2 * uint64_t{unsent_} <= kMaxStreamId));
}

bool Connection::can_open() const { return role_ == Role::client && usable() && open_ < most_streams(); }

void Connection::limit_streams(uint32_t most) {
  const bool was_full = open_ >= most_streams();
  own_max_streams_ = most;
  if (was_full && open_ < most_streams() && !ended_) announce_capacity();
}

http::Stream* Connection::open(http::StreamEvents& events) {
  if (!can_open()) return nullptr;
  Stream& stream = begin_stream(0);
  stream.events_ = &events;
  ++unsent_;
  return &stream;
}

uint32_t Connection::open_streams() const { return open_; }
uint32_t Connection::peer_max_concurrent_streams() const { return peer_max_concurrent_streams_; }
bool Connection::settings_received() const { return settings_received_; }
const char* Connection::error() const { return error_; }
const Counters& Connection::counters() const { return counters_; }

bool Connection::finished() const { return closed_ || (ending() && output_.empty()); }

bool Connection::ending() const {
  const bool no_more_streams = ended_ || drain_ == Drain::announced || (role_ == Role::client && goaway_received_);
  return no_more_streams && open_ == 0;
}

void Connection::fail(const ConnectionError& error) {
  if (ended_) return;
  ++counters_.protocol_errors;
  error_ = error.reason;
  abort(static_cast<uint32_t>(error.code));
}

void Connection::fail(const StreamError& error) {
  if (idle(error.stream_id)) {
    // RST_STREAM must not be sent for a stream that does not exist (section 6.4).
    return fail(ConnectionError{error.code, error.reason});
  }
  ++counters_.protocol_errors;
  write_reset(error.stream_id, error.code);
  if (Stream* stream = table_.find(error.stream_id)) {
    end_stream(*stream, http::Reset{http::Reset::Origin::local, static_cast<uint32_t>(error.code), false});
  } else {
    closed_streams_.remember(error.stream_id, Ending::reset_by_us);
  }
  charge(Limit::provoked_resets);
}

bool Connection::idle(uint32_t stream_id) const {
  if (stream_id % 2 == 0) return true;  // only pushes would open these
  return role_ == Role::server ? stream_id > highest_seen_ : stream_id >= next_id_;
}

void Connection::late_frame(uint32_t stream_id) {
  switch (closed_streams_.ending(stream_id)) {
    case Ending::reset_by_us:
      return;
    case Ending::ended_by_peer:
      return fail(ConnectionError{ErrorCode::stream_closed, "frame on a stream that the peer had ended"});
    case Ending::unknown:
      // Too long ago to tell. If all ids were used in order, the stream did exist.
      if (ids_skipped_) return fail(ConnectionError{ErrorCode::protocol_error, "frame on a stream that was skipped"});
      [[fallthrough]];
    case Ending::reset_by_peer:
      return fail(StreamError{stream_id, ErrorCode::stream_closed, "frame on a closed stream"});
  }
}

Stream& Connection::begin_stream(uint32_t id) {
  if (free_.empty()) {
    free_.push_back(*new Stream(*this));
    ++free_count_;
  }
  Stream& stream = free_.pop_front();
  --free_count_;
  free_unneeded_ = std::min(free_unneeded_, free_count_);
  // Until it has read our SETTINGS, the peer assumes the default.
  const uint32_t size = limits_.initial_stream_window;
  stream.begin(id, ReceiveWindow(size, settings_acknowledged_ ? size : std::max(size, kDefaultWindow)));
  live_.push_back(stream);
  ++open_;
  ++counters_.streams_opened;
  earn_by_stream();
  if (id != 0) table_.insert(id, &stream);
  return stream;
}

void Connection::assign_id(Stream& stream) {
  stream.id_ = next_id_;
  next_id_ += 2;
  --unsent_;
  stream.head_position_ = output_.appended();
  table_.insert(stream.id_, &stream);
}

void Connection::end_stream(Stream& stream, const http::Reset& reset) {
  http::StreamEvents* events = stream.events_;
  Ending ending = Ending::reset_by_us;
  if (stream.remote_ended_) {
    ending = Ending::ended_by_peer;
  } else if (reset.origin == http::Reset::Origin::peer) {
    ending = Ending::reset_by_peer;
  }
  let_go(stream, ending);
  if (events) return events->on_reset(reset);
  stream.untold_ = reset;
}

void Connection::end_streams(const http::Reset& reset, uint32_t most) {
  // The callbacks may release streams that are still in the list, but open none.
  for (Stream* stream; most > 0 && (stream = live_.first()); --most) {
    http::Reset own = reset;
    own.unprocessed = role_ == Role::client && (stream->id_ == 0 || stream->head_position_ >= output_.exposed());
    end_stream(*stream, own);
  }
}

void Connection::let_go(Stream& stream, Ending ending) {
  const bool was_full = open_ >= most_streams();
  stream.live_ = false;
  --open_;
  // An answer is the work that pays for a reset.
  if (role_ == Role::server ? stream.local_ended_ : stream.remote_ended_) earn(Limit::rapid_reset, 1);
  static_cast<Hook<InConnection>&>(stream).unlink();
  static_cast<Hook<InSendQueue>&>(stream).unlink();
  static_cast<Hook<InWindowUpdates>&>(stream).unlink();
  waiting_ -= stream.queue_.bytes();
  stream.queue_.clear();
  if (stream.id_ != 0) {
    table_.erase(stream.id_);
    closed_streams_.remember(stream.id_, ending);
    give_back(stream.receive_window_.held());
  } else {
    --unsent_;
  }
  if (depth_ > 0) {
    ended_streams_.push_back(stream);
  } else {
    recycle(stream);
  }
  if (was_full && !ended_) announce_capacity();
}

void Connection::recycle_ended() {
  while (!ended_streams_.empty()) recycle(ended_streams_.pop_front());
}

void Connection::recycle(Stream& stream) {
  constexpr size_t kKeptTrailers = 1024;
  if (stream.trailers_.bytes() > kKeptTrailers) {
    stream.trailers_ = http::Headers();
  } else {
    stream.trailers_.clear();
  }
  free_.push_back(stream);
  ++free_count_;
}

void Connection::trim_free_streams() {
  for (size_t n = (free_unneeded_ + 1) / 2; n > 0 && !free_.empty(); --n) {
    delete &free_.pop_front();
    --free_count_;
  }
  free_unneeded_ = free_count_;
}

}  // namespace weir::http2
