// Whole header blocks to messages (RFC 9113 section 8): requests, responses, trailers.
#include <utility>

#include "http2/connection.h"

namespace weir::http2 {
namespace {

constexpr size_t kKeptHeaders = 8192;

http::Headers status_only(std::string_view status) {
  http::Headers head;
  head.add(":status", status);
  return head;
}

}  // namespace

void Connection::end_block(Bytes bytes) {
  const Block block = std::exchange(block_, Block());
  counters_.header_bytes += bytes.size();
  if (headers_.bytes() > kKeptHeaders) headers_ = http::Headers();
  const auto outcome =
      decoder_.decode(bytes, HeaderListLimits{limits_.max_header_list_size, limits_.max_header_fields}, headers_);
  if (outcome == HpackDecoder::Outcome::broken) {
    return fail(ConnectionError{ErrorCode::compression_error, "a header block that is not HPACK"});
  }
  if (Stream* stream = table_.find(block.stream_id)) return continue_message(*stream, block, outcome);
  if (idle(block.stream_id)) return begin_request(block, outcome);
  if (charge(Limit::ignored_frame_flood)) late_frame(block.stream_id);
}

// check_request() or check_response(), whose answer the memo keeps.
template <class Head>
const char* Connection::checked(std::optional<Head> HeaderMemo::Section::*kept,
                                const char* (*check)(const http::Headers&, Head&), Head& head) {
  HeaderMemo::Section* const section = decoder_.section();
  if (section && section->*kept) {
    head = *(section->*kept);
    return nullptr;
  }
  const char* const wrong = check(headers_, head);
  if (section && !wrong) section->*kept = head;
  return wrong;
}

void Connection::begin_request(const Block& block, HpackDecoder::Outcome outcome) {
  const uint32_t id = block.stream_id;
  ids_skipped_ = ids_skipped_ || id > (highest_seen_ == 0 ? 1 : highest_seen_ + 2);
  highest_seen_ = id;
  if (drain_ == Drain::announced) {
    // Above the last stream id that the peer was told: it will try elsewhere (section 6.8).
    closed_streams_.remember(id, Ending::reset_by_us);
    charge(Limit::refused_streams);
    return;
  }
  if (block.depends_on_itself) {
    return fail(StreamError{id, ErrorCode::protocol_error, "a stream that depends on itself"});
  }
  if (open_ >= limits_.max_concurrent_streams) {
    ++counters_.streams_refused;
    events_.on_limit(Limit::concurrent_streams, LimitAction::enforce);
    write_reset(id, ErrorCode::refused_stream);
    closed_streams_.remember(id, Ending::reset_by_us);
    charge(Limit::refused_streams);
    return;
  }
  highest_processed_ = id;
  if (outcome == HpackDecoder::Outcome::too_large) return refuse_oversized(block);
  RequestHead head;
  if (const char* wrong = checked(&HeaderMemo::Section::request, check_request, head)) {
    return fail(StreamError{id, ErrorCode::protocol_error, wrong});
  }
  if (head.connect) return answer(block, status_only("501"));
  if (block.end_stream && head.content_length.value_or(0) != 0) {
    return fail(StreamError{id, ErrorCode::protocol_error, "content-length without a body"});
  }
  accept_request(block, head);
}

void Connection::accept_request(const Block& block, const RequestHead& head) {
  Stream& stream = begin_stream(block.stream_id);
  stream.remote_head_ = true;
  stream.remote_ended_ = block.end_stream;
  stream.body_left_ = head.content_length;
  http::StreamEvents* events = events_.on_stream(stream);
  if (!stream.live_) {
    if (const auto reset = std::exchange(stream.untold_, std::nullopt)) events->on_reset(*reset);
    return;
  }
  stream.events_ = events;
  events->on_headers(headers_, block.end_stream);
}

void Connection::continue_message(Stream& stream, const Block& block, HpackDecoder::Outcome outcome) {
  if (stream.remote_ended_) {
    return fail(StreamError{block.stream_id, ErrorCode::stream_closed, "HEADERS after END_STREAM"});
  }
  if (block.depends_on_itself) {
    return fail(StreamError{block.stream_id, ErrorCode::protocol_error, "a stream that depends on itself"});
  }
  if (outcome == HpackDecoder::Outcome::too_large) {
    note_oversized();
    return fail(StreamError{block.stream_id, ErrorCode::enhance_your_calm, "header section above our limits"});
  }
  return stream.remote_head_ ? take_trailers(stream, block) : take_response(stream, block);
}

void Connection::take_response(Stream& stream, const Block& block) {
  ResponseHead head;
  const char* wrong = checked(&HeaderMemo::Section::response, check_response, head);
  const bool informational = head.status < 200;
  if (!wrong && informational && block.end_stream) wrong = "informational response with END_STREAM";
  const bool no_body = stream.body_forbidden_ || head.status == 204 || head.status == 304;
  const uint64_t length = no_body ? 0 : head.content_length.value_or(0);
  if (!wrong && block.end_stream && length != 0) wrong = "content-length without a body";
  if (wrong) return fail(StreamError{block.stream_id, ErrorCode::protocol_error, wrong});
  if (informational && ++stream.informational_ > limits_.max_informational_responses) {
    events_.on_limit(Limit::informational_responses, LimitAction::enforce);
    return fail(StreamError{block.stream_id, ErrorCode::enhance_your_calm, "too many informational responses"});
  }
  if (!informational) {
    stream.remote_head_ = true;
    stream.remote_ended_ = block.end_stream;
    if (no_body || head.content_length) stream.body_left_ = length;
  }
  stream.events_->on_headers(headers_, block.end_stream);
}

void Connection::take_trailers(Stream& stream, const Block& block) {
  HeaderMemo::Section* const section = decoder_.section();
  const char* wrong = section && section->trailers ? nullptr : check_trailers(headers_);
  if (section && !wrong) section->trailers = true;
  if (!block.end_stream) wrong = "a second header section without END_STREAM";
  if (stream.body_left_.value_or(0) != 0) wrong = "the body's size is not its content-length";
  if (wrong) return fail(StreamError{block.stream_id, ErrorCode::protocol_error, wrong});
  stream.remote_ended_ = true;
  stream.events_->on_trailers(headers_);
}

// The decoder has kept what was within the limits: all the fields that may be there, or fewer since they were too long.
void Connection::note_oversized() {
  events_.on_limit(headers_.size() == limits_.max_header_fields ? Limit::header_fields : Limit::header_list_size,
                   LimitAction::enforce);
}

// A gRPC client is told in its own terms: RESOURCE_EXHAUSTED, as Trailers-Only.
void Connection::refuse_oversized(const Block& block) {
  note_oversized();
  if (!headers_.get("content-type").starts_with("application/grpc")) return answer(block, status_only("431"));
  http::Headers head = status_only("200");
  head.add("content-type", "application/grpc");
  head.add("grpc-status", "8");
  head.add("grpc-message", "the request's headers are too large");
  answer(block, head);
}

// To a request that its user is not to see.
void Connection::answer(const Block& block, const http::Headers& head) {
  ++counters_.protocol_errors;
  write_headers(block.stream_id, head, true);
  if (!block.end_stream) write_reset(block.stream_id, ErrorCode::no_error);
  closed_streams_.remember(block.stream_id, block.end_stream ? Ending::ended_by_peer : Ending::reset_by_us);
  charge(Limit::provoked_resets);
}

}  // namespace weir::http2
