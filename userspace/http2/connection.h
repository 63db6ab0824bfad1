// One HTTP/2 connection (RFC 9113), either role, sans I/O: received bytes go in,
// events and bytes to send come out. It knows no socket, no clock and no thread;
// the caller passes the time in.
//
//   receive(bytes, now) -> events -> (users send) -> gather() / written()
//
// Memory is bounded by Limits: header sections before they are decoded, streams
// by concurrency, received bodies by the windows we grant, and what is framed but
// not yet written by kOutputBudget, beyond which bodies wait in their streams.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/buffer.h"
#include "base/clock.h"
#include "http/stream.h"

namespace weir::http2 {

enum class Role : uint8_t { server, client };

// What we allow the peer. Defaults are the agent's. Sizes in bytes.
struct Limits {
  uint32_t max_concurrent_streams = 1000;     // advertised by the server role
  uint32_t initial_stream_window = 1 << 20;   // SETTINGS_INITIAL_WINDOW_SIZE, 1 MiB
  uint32_t connection_window = 4 << 20;       // granted by WINDOW_UPDATE on stream 0
  uint32_t max_frame_size = 16384;            // SETTINGS_MAX_FRAME_SIZE
  uint32_t header_table_size = 4096;          // both directions, whatever the peer offers
  uint32_t max_header_list_size = 64 * 1024;  // decoded: names + values + 32 a field
  uint32_t max_header_fields = 100;
  uint32_t max_header_block_size = 64 * 1024;  // encoded, HEADERS plus CONTINUATION
  uint32_t max_continuation_frames = 16;       // per header block
};

// What happened on a connection since it began; for metrics and for the attack limits.
struct Counters {
  uint64_t frames_received = 0;
  uint64_t streams_opened = 0;
  uint64_t streams_reset_by_peer = 0;
  uint64_t streams_reset_by_us = 0;
  uint64_t streams_refused = 0;
  uint64_t protocol_errors = 0;
  uint64_t control_frames = 0;  // PING, SETTINGS, PRIORITY, empty DATA, unknown
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
  // shutdown ended its use for new streams (see usable()).
  virtual void on_capacity() = 0;
};

class Connection {
 public:
  // `now` starts the deadline for the peer's SETTINGS. Both roles queue their preface
  // and SETTINGS at once.
  Connection(Role role, const Limits& limits, ConnectionEvents& events, base::Instant now);
  ~Connection();  // no stream may be held by a user any more: call closed() first
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Bytes from the peer, in order, of any size. Body slices given to on_data() are parts
  // of `bytes`. After a connection error nothing more is processed.
  void receive(const base::Slice& bytes, base::Instant now);
  // The transport has ended or will be given up: every stream gets on_reset() (origin
  // connection, carrying `error_code`), nothing can be sent any more.
  void closed(uint32_t error_code = 0);
  // Checks deadlines (peer's SETTINGS and its ACK, header block, drain). Call at least once a second.
  void tick(base::Instant now);

  // Frames what may go now and fills `out` with the bytes to write, in order; returns how many
  // entries were filled. The bytes stay where they are until written(). At most one
  // gather() before the matching written().
  size_t gather(std::span<iovec> out);
  // The first `bytes` of the last gather() left; the rest will be gathered again.
  void written(size_t bytes);
  bool wants_write() const;

  // Client role: opens a stream whose events go to `events`; null when can_open() is false. The
  // stream counts as unsent until send_headers().
  http::Stream* open(http::StreamEvents& events);
  bool can_open() const;  // usable() and below the peer's MAX_CONCURRENT_STREAMS
  // Accepts new streams at all: no GOAWAY in either direction, no error, ids left.
  bool usable() const;
  uint32_t open_streams() const;
  // The peer's MAX_CONCURRENT_STREAMS (its default is unlimited: 2^32-1).
  uint32_t peer_max_concurrent_streams() const;
  bool settings_received() const;  // the peer's first SETTINGS

  // Drain: GOAWAY (2^31-1), then after a round trip (PING) the real last stream id; running streams
  // finish. The second call, or drain_timeout passing, is up to the caller: abort().
  void drain();
  // GOAWAY with `error_code` now; every stream gets on_reset(); finished() once written.
  void abort(uint32_t error_code);
  // Nothing left to do: (drained, or failed) and no stream open. Close the transport after
  // writing what wants_write() still has.
  bool finished() const;
  // Non-empty after a connection error: what was wrong, for logs.
  const char* error() const;

  const Counters& counters() const;

 private:
  class Engine;
  std::unique_ptr<Engine> engine_;
};

}  // namespace weir::http2
