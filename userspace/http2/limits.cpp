// What is done to a peer that takes more than Limits allows.
#include "http2/limits.h"

#include <algorithm>

#include "http2/connection.h"

namespace weir::http2 {
namespace {

constexpr std::array<const char*, kBuckets + 1> kFloodReasons = {
    "too many PING frames",
    "too many SETTINGS frames",
    "too many empty DATA frames",
    "too many PRIORITY frames",
    "too many frames that mean nothing",
    "too many WINDOW_UPDATE frames",
    "too many tiny WINDOW_UPDATE frames",
    "too many streams were reset",
    "too many streams beyond SETTINGS_MAX_CONCURRENT_STREAMS",
    "too many GOAWAY frames",
    "too many streams had to be reset",
};

}  // namespace

bool Connection::charge(Limit flood) {
  const size_t bucket = bucket_of(flood);
  switch (buckets_[bucket].take(limits_.floods[bucket], received_at_)) {
    case TokenBucket::Level::fine:
      break;
    case TokenBucket::Level::low:
      if (ended_ || drain_ != Drain::none) break;
      events_.on_limit(flood, LimitAction::drain);
      drain();
      break;
    case TokenBucket::Level::exhausted:
      fail(flood, ConnectionError{ErrorCode::enhance_your_calm, kFloodReasons[index_of(flood)]});
      return false;
  }
  return true;
}

void Connection::earn_by_stream() {
  earn(Limit::empty_data_flood, 1);
  earn(Limit::priority_flood, 1);
  earn(Limit::ignored_frame_flood, 2);
  earn(Limit::window_update_flood, 2);
}

void Connection::earn_by_data_frame() {
  earn(Limit::ping_flood, 1);
  earn(Limit::window_update_flood, 16);
}

void Connection::fail(Limit limit, const ConnectionError& error) {
  if (ended_) return;
  events_.on_limit(limit, LimitAction::enforce);
  fail(error);
}

size_t Connection::held_bytes() const { return output_.size() + waiting_; }

// What waited at the last check must have left by now, or min_progress of it.
void Connection::check_progress() {
  if (received_at_ - progress_checked_ < limits_.progress_timeout) return;
  progress_checked_ = received_at_;
  const uint64_t written = output_.appended() - output_.size();
  if (written < write_due_) {
    return fail(Limit::write_stall, ConnectionError{ErrorCode::enhance_your_calm, "the peer hardly reads"});
  }
  write_due_ = written + std::min<size_t>(output_.size(), limits_.min_progress);
  reset_stalled_streams();
}

void Connection::reset_stalled_streams() {
  // First all of them out of reach of the callbacks' releases of others, then the telling.
  List<Stream, InConnection> stalled;
  for (Stream* stream = live_.first(); stream;) {
    Stream* next = live_.next(*stream);
    if (stream->local_end_given_ && !stream->queue_.empty()) {
      const size_t left = stream->queue_.bytes();
      if (left > stream->most_left_) {
        static_cast<Hook<InConnection>*>(stream)->unlink();
        stalled.push_back(*stream);
      }
      stream->most_left_ = left - std::min<size_t>(left, limits_.min_progress);
    }
    stream = next;
  }
  while (!stalled.empty()) {
    Stream& stream = stalled.front();
    events_.on_limit(Limit::flush_stall, LimitAction::enforce);
    if (!ended_) write_reset(stream.id_, ErrorCode::enhance_your_calm);
    end_stream(stream,
               http::Reset{http::Reset::Origin::local, static_cast<uint32_t>(ErrorCode::enhance_your_calm), false});
  }
}

}  // namespace weir::http2
