#include "http2/frame.h"

namespace weir::http2 {
namespace {

Flaw wrong_size(const char* reason) { return ConnectionError{ErrorCode::frame_size_error, reason}; }
Flaw wrong(const char* reason) { return ConnectionError{ErrorCode::protocol_error, reason}; }

Flaw check_setting(const SettingValue& setting) {
  switch (static_cast<Setting>(setting.id)) {
    case Setting::enable_push:
      if (setting.value > 1) return wrong("SETTINGS_ENABLE_PUSH is neither 0 nor 1");
      break;
    case Setting::initial_window_size:
      if (setting.value > kMaxWindow) {
        return ConnectionError{ErrorCode::flow_control_error, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1"};
      }
      break;
    case Setting::max_frame_size:
      if (setting.value < kSmallestMaxFrameSize || setting.value > kLargestMaxFrameSize) {
        return wrong("SETTINGS_MAX_FRAME_SIZE out of range");
      }
      break;
    case Setting::header_table_size:
    case Setting::max_concurrent_streams:
    case Setting::max_header_list_size:
      break;
  }
  return {};
}

}  // namespace

Flaw decode_headers(const FrameHeader& header, Bytes payload, HeadersFrame& out) {
  if (header.stream_id == 0) return wrong("HEADERS on stream 0");
  size_t padding = 0;
  if (header.has(kFlagPadded)) {
    if (payload.empty()) return wrong_size("HEADERS without its pad length");
    padding = payload[0];
    payload = payload.subspan(1);
  }
  if (header.has(kFlagPriority)) {
    if (payload.size() < kPrioritySize) return wrong_size("HEADERS without its priority");
    out.priority = read_priority(payload.data());
    payload = payload.subspan(kPrioritySize);
  }
  if (padding > payload.size()) return wrong("HEADERS with more padding than payload");
  out.fragment = payload.first(payload.size() - padding);
  return {};
}

Flaw check_settings(const FrameHeader& header, Bytes payload) {
  if (header.stream_id != 0) return wrong("SETTINGS on a stream");
  if (header.has(kFlagAck) && !payload.empty()) return wrong_size("SETTINGS ACK with a payload");
  if (payload.size() % kSettingSize != 0) return wrong_size("SETTINGS of a length that is no multiple of 6");
  for (size_t at = 0; at < payload.size(); at += kSettingSize) {
    if (Flaw flaw = check_setting(read_setting(payload.data() + at))) return flaw;
  }
  return {};
}

Flaw check_ping(const FrameHeader& header) {
  if (header.stream_id != 0) return wrong("PING on a stream");
  if (header.length != 8) return wrong_size("PING of a length other than 8");
  return {};
}

Flaw check_rst_stream(const FrameHeader& header) {
  if (header.stream_id == 0) return wrong("RST_STREAM on stream 0");
  if (header.length != 4) return wrong_size("RST_STREAM of a length other than 4");
  return {};
}

Flaw check_window_update(const FrameHeader& header) {
  if (header.length != 4) return wrong_size("WINDOW_UPDATE of a length other than 4");
  return {};
}

Flaw decode_goaway(const FrameHeader& header, Bytes payload, GoawayFrame& out) {
  if (header.stream_id != 0) return wrong("GOAWAY on a stream");
  if (payload.size() < 8) return wrong_size("GOAWAY shorter than 8 bytes");
  out.last_stream_id = read_u32(payload.data()) & kMaxStreamId;
  out.code = static_cast<ErrorCode>(read_u32(payload.data() + 4));
  return {};
}

}  // namespace weir::http2
