// The two kinds of HTTP/2 error (RFC 9113 section 5.4), as different types: a
// StreamError costs one stream, a ConnectionError all of them. Reasons are static
// sentences for logs.
#pragma once

#include <cstdint>

namespace weir::http2 {

// RFC 9113 section 7.
enum class ErrorCode : uint32_t {
  no_error = 0x0,
  protocol_error = 0x1,
  internal_error = 0x2,
  flow_control_error = 0x3,
  settings_timeout = 0x4,
  stream_closed = 0x5,
  frame_size_error = 0x6,
  refused_stream = 0x7,
  cancel = 0x8,
  compression_error = 0x9,
  connect_error = 0xa,
  enhance_your_calm = 0xb,
  inadequate_security = 0xc,
  http_1_1_required = 0xd,
};

struct ConnectionError {
  ErrorCode code;
  const char* reason;
};

struct StreamError {
  uint32_t stream_id;
  ErrorCode code;
  const char* reason;
};

}  // namespace weir::http2
