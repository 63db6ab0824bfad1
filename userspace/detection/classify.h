// The first bytes of a connection -> its protocol. Pure: the caller keeps the bytes,
// asks again when more have come, and says when it has waited long enough.
#pragma once

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

}  // namespace weir::detection
