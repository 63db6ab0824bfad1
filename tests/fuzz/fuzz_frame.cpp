// The layout of single frames: the first nine bytes are the header, the rest the payload.
#include <cstdint>
#include <cstdlib>

#include "http2/frame.h"

using namespace weir::http2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kFrameHeaderSize) return 0;
  FrameHeader header = read_frame_header(data);
  const Bytes payload(data + kFrameHeaderSize, size - kFrameHeaderSize);
  // As the connection guarantees before it calls a decoder.
  header.length = static_cast<uint32_t>(payload.size());

  HeadersFrame headers;
  if (!decode_headers(header, payload, headers) &&
      (headers.fragment.size() > payload.size() || headers.fragment.data() < payload.data())) {
    std::abort();
  }
  GoawayFrame goaway;
  if (!decode_goaway(header, payload, goaway) && goaway.last_stream_id > kMaxStreamId) std::abort();
  if (!check_settings(header, payload) && payload.size() % kSettingSize != 0) std::abort();
  check_ping(header);
  check_rst_stream(header);
  check_window_update(header);

  uint8_t again[kFrameHeaderSize];
  header = read_frame_header(data);
  write_frame_header(again, header.length, static_cast<FrameType>(header.type), header.flags, header.stream_id);
  const FrameHeader back = read_frame_header(again);
  if (back.length != header.length || back.type != header.type || back.stream_id != header.stream_id) std::abort();
  return 0;
}
