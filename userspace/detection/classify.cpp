#include "detection/classify.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace weir::detection {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t kFrameHeader = 9;  // RFC 9113 section 4.1
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::array<std::string_view, 9> kHttp1 = {"GET ",     "POST ",    "HEAD ",  "PUT ",  "DELETE ",
                                                    "OPTIONS ", "CONNECT ", "PATCH ", "TRACE "};

// `bytes` begin with `text` (found), may come to (need_more), or do not (opaque).
Protocol match(Bytes bytes, std::string_view text, Protocol found) {
  const size_t n = std::min(bytes.size(), text.size());
  if (!std::equal(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n), text.begin(),
                  [](uint8_t a, char b) { return a == static_cast<uint8_t>(b); })) {
    return Protocol::opaque;
  }
  return n == text.size() ? found : Protocol::need_more;
}

// RFC 8446 section 5.1: handshake (22), version 3.x, a length of 4 to 2^14, then the handshake type ClientHello (1).
Protocol match_tls(Bytes bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned>(bytes[i]); };
  if (bytes[0] != 22) return Protocol::opaque;
  if (bytes.size() > 1 && at(1) != 3) return Protocol::opaque;
  if (bytes.size() > 2 && at(2) > 4) return Protocol::opaque;
  if (bytes.size() > 4 && ((at(3) << 8 | at(4)) < 4 || (at(3) << 8 | at(4)) > (1u << 14))) return Protocol::opaque;
  if (bytes.size() > 5) return at(5) == 1 ? Protocol::tls : Protocol::opaque;
  return Protocol::need_more;
}

}  // namespace

Protocol classify(Bytes bytes) {
  if (bytes.empty()) return Protocol::need_more;
  bool open = false;
  const auto settles = [&](Protocol verdict) {
    open = open || verdict == Protocol::need_more;
    return verdict != Protocol::need_more && verdict != Protocol::opaque;
  };
  if (settles(match(bytes, kPreface, Protocol::http2))) return Protocol::http2;
  for (const std::string_view method : kHttp1) {
    if (settles(match(bytes, method, Protocol::http1))) return Protocol::http1;
  }
  if (settles(match_tls(bytes))) return Protocol::tls;
  return open ? Protocol::need_more : Protocol::opaque;
}

bool may_be_http2(Bytes bytes) { return match(bytes, kPreface, Protocol::http2) != Protocol::opaque; }

bool may_be_settings(Bytes bytes) {
  constexpr uint8_t kSettings = 4, kEntry = 6;
  constexpr unsigned kMaxFrame = 1u << 14;  // before the client may have allowed more
  // Length (24 bits), type, flags, stream.
  for (size_t i = 0; i < std::min(bytes.size(), kFrameHeader); ++i) {
    if (i == 1 || i == 2) continue;
    if (bytes[i] != (i == 3 ? kSettings : 0)) return false;
  }
  if (bytes.size() < 3) return true;
  const unsigned length = static_cast<unsigned>(bytes[1]) << 8 | bytes[2];
  return length % kEntry == 0 && length <= kMaxFrame;
}

bool begins_with_settings(Bytes bytes) { return bytes.size() >= kFrameHeader && may_be_settings(bytes); }

const char* to_string(Verdict verdict) {
  constexpr std::array<const char*, kVerdicts> kNames = {"http2", "http1", "tls", "tcp", "server_first", "silent"};
  return kNames[static_cast<size_t>(verdict)];
}

Verdict verdict_of(Bytes bytes) {
  switch (classify(bytes)) {
    case Protocol::http2:
      return Verdict::http2;
    case Protocol::http1:
      return Verdict::http1;
    case Protocol::tls:
      return Verdict::tls;
    case Protocol::need_more:
    case Protocol::opaque:
      break;
  }
  return Verdict::tcp;
}

}  // namespace weir::detection
