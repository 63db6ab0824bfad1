// The first bytes of a connection -> its protocol. Pure: the caller keeps the bytes,
// asks again when more have come, and says when it has waited long enough.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace weir::detection {

enum class Protocol : uint8_t {
  need_more,  // what there is begins one of the others: at most 23 bytes
  http2,      // the whole connection preface (RFC 9113 section 3.4)
  http1,      // one of RFC 9110's methods or PATCH, and a space
  tls,        // a record that begins a ClientHello
  opaque,     // anything else
};

Protocol classify(std::span<const uint8_t> bytes);
// Whether `bytes` may still become the HTTP/2 preface, or hold all of it; empty ones may.
bool may_be_http2(std::span<const uint8_t> bytes);

// The same of what a server says before its client: the header of a SETTINGS frame (RFC 9113 section 6.5) that is no
// ACK, on stream 0, in part or whole.
bool may_be_settings(std::span<const uint8_t> bytes);
// ... and whole.
bool begins_with_settings(std::span<const uint8_t> bytes);

// What a connection turned out to be.
enum class Verdict : uint8_t {
  http2,
  http1,
  tls,
  tcp,           // the client said something else first
  server_first,  // the server spoke first, and not HTTP/2
  silent,        // it ended, or took too long, before it could be told
};
inline constexpr size_t kVerdicts = 6;
const char* to_string(Verdict verdict);
// Of a client that said `bytes`, which can't become the preface any more.
Verdict verdict_of(std::span<const uint8_t> bytes);

}  // namespace weir::detection
