// What the engine allows its peer, in either role, and a name for each limit: when one
// acts it is reported by ConnectionEvents::on_limit(), and counted in the metrics by that name.
// The numbers are far above what gRPC's libraries do and far below what hurts: a frame
// costs the engine some 50 ns, a stream some microseconds.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/clock.h"
#include "http2/token_bucket.h"

namespace weir::http2 {

enum class Limit : uint8_t {
  // Floods: a token a frame. Three quarters gone: the connection is drained, so that a peer that means
  // no harm comes back by another one. All gone: it fails with ENHANCE_YOUR_CALM.
  ping_flood,           // PING, ACKs too
  settings_flood,       // SETTINGS, ACKs too
  empty_data_flood,     // DATA with neither payload nor END_STREAM
  priority_flood,       // PRIORITY
  ignored_frame_flood,  // unknown types; HEADERS and empty DATA on streams that we reset
  window_update_flood,  // WINDOW_UPDATE
  window_dribble,       // WINDOW_UPDATE by less than kDribble to a body that waits
  rapid_reset,          // RST_STREAM (CVE-2023-44487)
  refused_streams,      // streams beyond concurrent_streams, or after our last GOAWAY
  goaway_flood,         // GOAWAY
  provoked_resets,      // errors that make us reset a stream (CVE-2025-8671); its tokens are rapid_reset's
  // The connection fails.
  settings_size,         // settings in one frame
  settings_timeout,      // the peer's first SETTINGS, then its ACK
  continuation_flood,    // CONTINUATION frames in a header block
  header_block_size,     // its bytes, encoded
  header_block_timeout,  // its time to END_HEADERS
  frame_timeout,         // the time of another frame but DATA
  unwritten_output,      // bytes that the peer made us frame but does not read
  write_stall,           // what we framed hardly leaves
  // One stream is refused or reset.
  concurrent_streams,
  header_list_size,         // decoded
  header_fields,            // their number
  informational_responses,  // 1xx before the response
  flush_stall,              // a complete message hardly leaves, since the peer's windows hardly open
};
inline constexpr size_t kLimits = 24;
inline constexpr std::array<std::string_view, kLimits> kLimitNames = {
    "ping_flood",
    "settings_flood",
    "empty_data_flood",
    "priority_flood",
    "ignored_frame_flood",
    "window_update_flood",
    "window_dribble",
    "rapid_reset",
    "refused_streams",
    "goaway_flood",
    "provoked_resets",
    "settings_size",
    "settings_timeout",
    "continuation_flood",
    "header_block_size",
    "header_block_timeout",
    "frame_timeout",
    "unwritten_output",
    "write_stall",
    "concurrent_streams",
    "header_list_size",
    "header_fields",
    "informational_responses",
    "flush_stall",
};
constexpr size_t index_of(Limit limit) { return static_cast<size_t>(limit); }
static_assert(index_of(Limit::flush_stall) == kLimits - 1);
constexpr bool is_flood(Limit limit) { return limit <= Limit::provoked_resets; }
// Where the tokens of a flood limit are.
inline constexpr size_t kBuckets = index_of(Limit::provoked_resets);
constexpr size_t bucket_of(Limit flood) {
  return index_of(flood == Limit::provoked_resets ? Limit::rapid_reset : flood);
}

enum class LimitAction : uint8_t {
  drain,    // a flood at three quarters
  enforce,  // the connection fails, or the stream is refused or reset
};

// A WINDOW_UPDATE by less to a body that waits makes us send a frame that is mostly header.
inline constexpr uint32_t kDribble = 256;

// Sizes in bytes. The defaults are the agent's.
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
  uint32_t max_settings = 32;                  // in one frame, as in nghttp2
  uint32_t max_informational_responses = 16;   // 1xx on one stream
  // Of a peer that makes us answer but does not read: above it, ENHANCE_YOUR_CALM. Far above kOutputBudget,
  // since heads and control frames don't wait.
  uint32_t max_unwritten_output = 4 << 20;
  base::Duration settings_timeout = std::chrono::seconds(10);  // for the peer's first SETTINGS, then for its ACK
  base::Duration frame_timeout = std::chrono::seconds(10);     // to the end of a header block, or of a frame but DATA
  base::Duration drain_timeout = std::chrono::seconds(10);     // for the round trip between drain()'s two GOAWAYs
  // Of a complete message that waits for the peer's windows, and of framed bytes that wait for the transport,
  // min_progress (or all) must leave within progress_timeout, or up to twice that: tiny updates don't count.
  // Five minutes as Envoy's stream_flush_timeout. A message that still goes on may wait as long as the reader
  // likes; what it holds is bounded by the windows, and its owner sheds the largest by held_bytes().
  base::Duration progress_timeout = std::chrono::minutes(5);
  uint32_t min_progress = 16 * 1024;

  // By bucket_of(). A quarter of a burst is above max_concurrent_streams where a well-behaved peer may use a token a
  // stream: after the GOAWAY at three quarters it can still cancel all that it has open.
  std::array<TokenRate, kBuckets> floods = {{
      {2000, std::chrono::milliseconds(10)},  // ping_flood: keepalives; a DATA frame sent pays for a BDP probe
      {400, std::chrono::milliseconds(100)},  // settings_flood: grpc-core sends one with each BDP estimate
      {1000, std::chrono::milliseconds(10)},  // empty_data_flood: no gRPC library sends any; a stream pays for one
      {1000, std::chrono::milliseconds(10)},  // priority_flood: Firefox opens with six; a stream pays for one
      {10000, std::chrono::milliseconds(1)},  // ignored_frame_flood: a stream pays for its late head and trailers
      {10000, std::chrono::milliseconds(1)},  // window_update_flood: a stream pays for 2, a DATA frame sent for 16
      {10000, std::chrono::milliseconds(1)},  // window_dribble
      {10000, std::chrono::milliseconds(1)},  // rapid_reset: deadline storms; each answered stream pays for one
      {10000, std::chrono::milliseconds(1)},  // refused_streams: clients that don't wait for our SETTINGS
      {20, std::chrono::seconds(1)},          // goaway_flood: two end a connection
  }};
};

}  // namespace weir::http2
