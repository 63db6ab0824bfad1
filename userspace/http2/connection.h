// One HTTP/2 connection (RFC 9113), either role, sans I/O: received bytes go in,
// events and bytes to send come out. It knows no socket, no clock and no thread;
// the caller passes the time in.
//
//   receive(bytes, now) -> events -> (users send) -> gather() / written()
//
// Memory and work are bounded by Limits (limits.h): header sections before they are decoded,
// streams by concurrency, received bodies by the windows we grant, frames by their rate, and what is
// framed but not yet written by kOutputBudget, beyond which bodies wait in their streams.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/buffer.h"
#include "base/clock.h"
#include "http/stream.h"
#include "http2/closed_streams.h"
#include "http2/frame.h"
#include "http2/header_rules.h"
#include "http2/hpack.h"
#include "http2/limits.h"
#include "http2/output.h"
#include "http2/stream.h"
#include "http2/stream_table.h"

namespace weir::http2 {

enum class Role : uint8_t { server, client };

// Framed but unwritten output from which on bodies wait in their streams.
inline constexpr size_t kOutputBudget = 256 * 1024;

// What happened on a connection since it began.
struct Counters {
  uint64_t frames_received = 0;
  uint64_t streams_opened = 0;
  uint64_t streams_reset_by_peer = 0;
  uint64_t streams_reset_by_us = 0;
  uint64_t streams_refused = 0;
  uint64_t protocol_errors = 0;
  uint64_t header_bytes = 0;  // of header blocks, encoded

  // What it took to handle all this, in units of about a frame: a header block costs by its size too, and streams
  // that are opened, or end before their time, by what follows from it.
  uint64_t work() const {
    return frames_received + header_bytes / 64 + 2 * streams_opened +
           4 * (streams_reset_by_peer + streams_reset_by_us + streams_refused);
  }
};

class ConnectionEvents {
 public:
  virtual ~ConnectionEvents() = default;
  // Server role: a request begins; its head follows at once by on_headers(). The
  // return value hears the stream's events; it must not be null.
  virtual http::StreamEvents* on_stream(http::Stream& stream) = 0;
  // Something to send exists that did not before; called at most once until the
  // next gather(). Only note it (a dirty list): do not call into the connection.
  virtual void on_output() = 0;
  // Client role: can_open() may have turned true, or the peer's GOAWAY / our
  // shutdown ended its use for new streams (see usable()). It may come from within Stream::release().
  virtual void on_capacity() = 0;
  // A limit acted. Only note it, as in on_output().
  virtual void on_limit(Limit limit, LimitAction action) = 0;
  // The ACK of probe() has come.
  virtual void on_probe_returned() {}
};

class Connection {
 public:
  // `now` starts the deadline for the peer's SETTINGS. Both roles queue their preface
  // and SETTINGS at once: wants_write() is true from the start, without an on_output() for it.
  Connection(Role role, const Limits& limits, ConnectionEvents& events, base::Instant now);
  ~Connection();  // no stream may be held by a user any more: call closed() first
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Bytes from the peer, in order, of any size. Body slices given to on_data() are parts
  // of `bytes`. After a connection error nothing more is processed. Returns how many bytes were taken: all,
  // unless counters().work() has grown by `most_work`; then the rest is to be given again.
  uint32_t receive(const base::Slice& bytes, base::Instant now, uint64_t most_work = UINT64_MAX);
  // What streams hold that nobody has read goes back to the peer's connection window at once, not when it is consumed:
  // they don't hold up others then, and what they hold is bounded by their own windows alone (RFC 9113 section 5.2.2).
  void lend();
  // The transport has ended or will be given up: what is sent from now on is dropped, and every stream gets on_reset()
  // (origin connection, carrying `error_code`), `most_streams` of them at a time. False: some have not; call it again.
  bool closed(uint32_t error_code = 0, uint32_t most_streams = UINT32_MAX);
  // Checks deadlines (peer's SETTINGS and its ACK, header block, progress, drain). Call at least once a second.
  void tick(base::Instant now);

  // Frames what may go now and fills `out` with the bytes to write, in order; returns how many
  // entries were filled. The bytes stay where they are until written(). At most one
  // gather() before the matching written().
  size_t gather(std::span<iovec> out);
  // The first `bytes` of the last gather() left; the rest will be gathered again. Ask wants_write() afterwards: bodies
  // that waited for room may go now, which is not announced by on_output().
  void written(size_t bytes);
  bool wants_write() const;
  // Bytes framed since the connection began, and those of them that written() has not been told of.
  uint64_t framed() const { return output_.appended(); }
  size_t unwritten() const { return output_.size(); }

  // Frames a PING whose ACK proves that the peer has read all that left before it: on_probe_returned(). One at a time.
  // Returns how many bytes are still to be written until it has left.
  size_t probe(uint64_t payload);

  // Client role: opens a stream whose events go to `events`; null when can_open() is false. The
  // stream counts as unsent until send_headers().
  http::Stream* open(http::StreamEvents& events);
  bool can_open() const;  // usable() and below most_streams()
  // Accepts new streams at all: no GOAWAY in either direction, no error, ids left.
  bool usable() const;
  uint32_t open_streams() const;
  // Client role: no more streams at a time than this, even if the peer allows more. can_open() turns true below it.
  void limit_streams(uint32_t most);
  // The lower of that and the peer's MAX_CONCURRENT_STREAMS.
  uint32_t most_streams() const { return std::min(peer_max_concurrent_streams_, own_max_streams_); }
  // The peer's MAX_CONCURRENT_STREAMS (its default is unlimited: 2^32-1).
  uint32_t peer_max_concurrent_streams() const;
  bool settings_received() const;  // the peer's first SETTINGS

  // Drain: GOAWAY (2^31-1), then after a round trip (PING) the real last stream id; running streams
  // finish. How long to wait for them is up to the caller: abort() ends it. A second call does nothing.
  void drain();
  // GOAWAY with `error_code` now; every stream gets on_reset(); finished() once written.
  void abort(uint32_t error_code);
  // Nothing left to do: (drained, or failed) and no stream open. Close the transport after
  // writing what wants_write() still has.
  bool finished() const;
  // No stream is open, and none will be: what is framed is the last.
  bool ending() const;
  // Non-empty after a connection error: what was wrong, for logs.
  const char* error() const;

  const Counters& counters() const;
  // Bytes that wait for the peer, framed or in their streams: what closing the connection would free of bodies.
  size_t held_bytes() const;

 private:
  friend class Stream;

  // While one is alive, streams that end are not reused: code further up the stack may still look at them.
  class Turn {
   public:
    explicit Turn(Connection& connection) : connection_(connection) { ++connection_.depth_; }
    ~Turn() {
      if (--connection_.depth_ == 0) connection_.recycle_ended();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Connection& connection_;
  };

  // The DATA frame whose payload is arriving.
  struct Body {
    uint32_t left = 0;       // of the payload, padding included
    uint32_t padding = 0;    // of what is left
    uint32_t stream_id = 0;  // 0: nobody wants it
    bool end_stream = false;
    bool pad_length_due = false;
  };
  // The header block that is being assembled, or has just been.
  struct Block {
    uint32_t stream_id = 0;  // 0: none
    uint32_t continuations = 0;
    uint64_t first_frame = 0;
    bool end_stream = false;
    bool depends_on_itself = false;
  };
  enum class Drain : uint8_t { none, probing, announced };

  // receive.cpp: bytes to frames, and DATA, which is passed on as it comes.
  size_t take_preface(Bytes bytes);
  size_t take_frame(Bytes bytes);
  size_t take_body(const base::Slice& bytes, uint32_t at);
  void deliver(Stream& stream, base::Slice data, bool end_stream);
  bool admit(const FrameHeader& header);
  void handle(const FrameHeader& header, Bytes payload);
  void watch_unfinished(base::Instant now);

  // frames.cpp: a handler by frame type. `payload` is whole, but for DATA, where it is empty.
  using Handler = void (Connection::*)(const FrameHeader& header, Bytes payload);
  static const std::array<Handler, kFrameTypes> kHandlers;
  void on_data(const FrameHeader& header, Bytes payload);
  void on_headers(const FrameHeader& header, Bytes payload);
  void on_priority(const FrameHeader& header, Bytes payload);
  void on_rst_stream(const FrameHeader& header, Bytes payload);
  void on_settings(const FrameHeader& header, Bytes payload);
  void on_push_promise(const FrameHeader& header, Bytes payload);
  void on_ping(const FrameHeader& header, Bytes payload);
  void on_goaway(const FrameHeader& header, Bytes payload);
  void on_window_update(const FrameHeader& header, Bytes payload);
  void on_continuation(const FrameHeader& header, Bytes payload);
  void header_block_too_large();
  void settings_acknowledged();
  bool apply(const SettingValue& setting);
  bool change_initial_window(uint32_t size);

  // messages.cpp: whole header blocks to messages.
  void end_block(Bytes block);
  template <class Head>
  const char* checked(std::optional<Head> HeaderMemo::Section::*kept, const char* (*check)(const http::Headers&, Head&),
                      Head& head);
  void begin_request(const Block& block, HpackDecoder::Outcome outcome);
  void accept_request(const Block& block, const RequestHead& head);
  void continue_message(Stream& stream, const Block& block, HpackDecoder::Outcome outcome);
  void take_response(Stream& stream, const Block& block);
  void take_trailers(Stream& stream, const Block& block);
  void note_oversized();
  void refuse_oversized(const Block& block);
  void answer(const Block& block, const http::Headers& head);

  // limits.cpp: what is done to a peer that takes more than Limits allows.
  bool charge(Limit flood);  // false: the connection has failed
  void earn(Limit flood, uint32_t tokens) {
    const size_t bucket = bucket_of(flood);
    buckets_[bucket].earn(tokens, limits_.floods[bucket], received_at_);
  }
  void earn_by_stream();
  void earn_by_data_frame();
  void fail(Limit limit, const ConnectionError& error);
  void check_progress();
  void reset_stalled_streams();

  // Errors (RFC 9113 section 5.4), and frames that come too late (5.1).
  void ping_returned(Bytes payload);
  void announce_last_stream();
  void fail(const ConnectionError& error);
  void fail(const StreamError& error);
  void late_frame(uint32_t stream_id);
  bool idle(uint32_t stream_id) const;

  // Streams.
  Stream& begin_stream(uint32_t id);
  void assign_id(Stream& stream);
  void end_stream(Stream& stream, const http::Reset& reset);
  void end_streams(const http::Reset& reset, uint32_t most = UINT32_MAX);
  void let_go(Stream& stream, Ending ending);
  void recycle_ended();
  void recycle(Stream& stream);
  void trim_free_streams();

  // Sending.
  void announce_output();
  void announce_capacity();
  uint32_t sendable(const Stream& stream, size_t wanted) const;
  void use_send_windows(Stream& stream, uint32_t bytes);
  void await_window(Stream& stream);
  bool may_frame_bodies() const;
  bool body_waits(uint32_t stream_id) const;  // 0: for the connection's window
  void frame_waiting();
  void write_preface();
  void write_frame(FrameType type, uint8_t flags, uint32_t stream_id, Bytes payload);
  void write_u32_frame(FrameType type, uint32_t stream_id, uint32_t value);
  void write_headers(uint32_t stream_id, const http::Headers& headers, bool end_stream);
  void write_trailers(Stream& stream, const http::Headers& trailers);
  void write_data_header(uint32_t stream_id, size_t length, bool end_stream);
  void write_data(uint32_t stream_id, base::Slice data, bool end_stream);
  void write_reset(uint32_t stream_id, ErrorCode code);
  void write_goaway(uint32_t last_stream_id, ErrorCode code);
  void write_window_updates();
  // Received bytes that were consumed, or that nobody will consume, go back to the peer's windows.
  void give_back(Stream& stream, size_t bytes);
  void give_back(size_t bytes);

  const Role role_;
  const Limits limits_;
  ConnectionEvents& events_;
  Counters counters_;
  std::array<TokenBucket, kBuckets> buckets_;
  const char* error_ = "";
  uint32_t depth_ = 0;
  bool ended_ = false;             // GOAWAY with an error is queued, or closed(): nothing is processed any more
  bool closed_ = false;            // the transport is gone
  bool output_announced_ = false;  // on_output() was called and gather() was not
  bool goaway_received_ = false;
  uint32_t last_goaway_id_ = kMaxStreamId;  // what the peer's GOAWAY said
  Drain drain_ = Drain::none;
  std::optional<uint64_t> probe_;  // its payload, while its ACK is due

  // Receiving.
  size_t preface_left_;
  pool::Vector<uint8_t> partial_;  // the beginning of a frame, header included
  Body body_;
  Block block_;
  pool::Vector<uint8_t> block_bytes_;
  HpackDecoder decoder_;
  http::Headers headers_;  // of the block that was decoded last
  ReceiveWindow receive_window_;

  // Streams.
  StreamTable table_;
  ClosedStreams closed_streams_;
  List<Stream, InConnection> live_, ended_streams_, free_;
  size_t free_count_ = 0;
  size_t free_unneeded_ = 0;  // how many of them were free all the time since the last tick()
  uint32_t open_ = 0;
  uint32_t unsent_ = 0;             // client: open without an id
  uint32_t next_id_ = 1;            // client
  uint32_t highest_seen_ = 0;       // server
  uint32_t highest_processed_ = 0;  // server: what GOAWAY says
  bool ids_skipped_ = false;        // server: some id below highest_seen_ was never used

  // Sending.
  HpackEncoder encoder_;
  Output output_;
  SendWindow send_window_;
  size_t waiting_ = 0;                         // bytes in the streams' queues
  List<Stream, InSendQueue> ready_, blocked_;  // blocked: by the stream's own window
  List<Stream, InWindowUpdates> window_updates_;

  // The peer's SETTINGS, and what it knows of ours.
  bool settings_received_ = false;
  bool settings_acknowledged_ = false;
  uint32_t peer_initial_window_ = kDefaultWindow;
  uint32_t peer_max_frame_size_ = kSmallestMaxFrameSize;
  uint32_t peer_max_concurrent_streams_ = UINT32_MAX;
  uint32_t own_max_streams_ = UINT32_MAX;  // client: limit_streams()
  int64_t highest_credit_ = 0;             // no stream's StreamSendWindow::credit() is above it

  // Deadlines.
  base::Instant waiting_since_;  // for the peer's SETTINGS, then for its ACK
  base::Instant received_at_;    // the time of the last receive() or tick()
  base::Instant draining_since_;
  base::Instant progress_checked_;
  uint64_t write_due_ = 0;  // position in the output up to which it must be written at the next check
  base::Instant unfinished_since_;
  uint64_t unfinished_frame_ = 0;  // the frame that is not whole yet, or begins such a block; 0: none
};

}  // namespace weir::http2
