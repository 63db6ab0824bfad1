// HTTP/2 frames (RFC 9113 sections 4 and 6): layout only. Decoding checks what a
// frame's own bytes can violate; what depends on the connection's or a stream's
// state is the handlers' business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "http2/error.h"

namespace weir::http2 {

using Bytes = std::span<const uint8_t>;

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr size_t kFrameHeaderSize = 9;
inline constexpr uint32_t kMaxStreamId = 0x7fffffff;
inline constexpr uint32_t kMaxWindow = 0x7fffffff;
inline constexpr uint32_t kDefaultWindow = 65535;
inline constexpr uint32_t kDefaultTableSize = 4096;
inline constexpr uint32_t kSmallestMaxFrameSize = 16384;
inline constexpr uint32_t kLargestMaxFrameSize = (1u << 24) - 1;

enum class FrameType : uint8_t {
  data,
  headers,
  priority,
  rst_stream,
  settings,
  push_promise,
  ping,
  goaway,
  window_update,
  continuation,
};
inline constexpr size_t kFrameTypes = 10;

inline constexpr uint8_t kFlagEndStream = 0x1;
inline constexpr uint8_t kFlagAck = 0x1;
inline constexpr uint8_t kFlagEndHeaders = 0x4;
inline constexpr uint8_t kFlagPadded = 0x8;
inline constexpr uint8_t kFlagPriority = 0x20;

enum class Setting : uint16_t {
  header_table_size = 0x1,
  enable_push = 0x2,
  max_concurrent_streams = 0x3,
  initial_window_size = 0x4,
  max_frame_size = 0x5,
  max_header_list_size = 0x6,
};

struct FrameHeader {
  uint32_t length = 0;
  uint8_t type = 0;  // not a FrameType: unknown ones are legal (section 4.1)
  uint8_t flags = 0;
  uint32_t stream_id = 0;

  bool is(FrameType t) const { return type == static_cast<uint8_t>(t); }
  bool has(uint8_t flag) const { return (flags & flag) != 0; }
};

inline uint32_t read_u32(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}
inline void write_u32(uint8_t* p, uint32_t v) {
  p[0] = static_cast<uint8_t>(v >> 24);
  p[1] = static_cast<uint8_t>(v >> 16);
  p[2] = static_cast<uint8_t>(v >> 8);
  p[3] = static_cast<uint8_t>(v);
}

// `p` has kFrameHeaderSize bytes.
inline FrameHeader read_frame_header(const uint8_t* p) {
  return FrameHeader{uint32_t{p[0]} << 16 | uint32_t{p[1]} << 8 | p[2], p[3], p[4], read_u32(p + 5) & kMaxStreamId};
}
inline void write_frame_header(uint8_t* p, size_t length, FrameType type, uint8_t flags, uint32_t stream_id) {
  p[0] = static_cast<uint8_t>(length >> 16);
  p[1] = static_cast<uint8_t>(length >> 8);
  p[2] = static_cast<uint8_t>(length);
  p[3] = static_cast<uint8_t>(type);
  p[4] = flags;
  write_u32(p + 5, stream_id);
}

struct Priority {
  uint32_t depends_on = 0;
};

struct HeadersFrame {
  Bytes fragment;  // of the field block, padding and priority taken off
  std::optional<Priority> priority;
};

struct SettingValue {
  uint16_t id;  // not a Setting: unknown ones are ignored (section 6.5.2)
  uint32_t value;
};

struct GoawayFrame {
  uint32_t last_stream_id = 0;
  ErrorCode code = ErrorCode::no_error;
};

// Each returns what is wrong with the frame, or nothing and fills `out`. `payload` is whole.
using Flaw = std::optional<ConnectionError>;
Flaw decode_headers(const FrameHeader& header, Bytes payload, HeadersFrame& out);
// On the connection (stream 0), a multiple of six bytes, none with ACK; values within their ranges.
Flaw check_settings(const FrameHeader& header, Bytes payload);
Flaw check_ping(const FrameHeader& header);
Flaw check_rst_stream(const FrameHeader& header);
Flaw check_window_update(const FrameHeader& header);
Flaw decode_goaway(const FrameHeader& header, Bytes payload, GoawayFrame& out);

inline constexpr size_t kSettingSize = 6;
inline SettingValue read_setting(const uint8_t* p) {
  return SettingValue{static_cast<uint16_t>(p[0] << 8 | p[1]), read_u32(p + 2)};
}

inline constexpr size_t kPrioritySize = 5;
inline Priority read_priority(const uint8_t* p) { return Priority{read_u32(p) & kMaxStreamId}; }

}  // namespace weir::http2
