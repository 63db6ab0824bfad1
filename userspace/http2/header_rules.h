// The rules that make a header section well-formed (RFC 9113 sections 8.2 and 8.3).
// A section that breaks one is rejected, never repaired: what one hop repairs, the
// next may read differently.
#pragma once

#include <cstdint>
#include <optional>

#include "http/headers.h"

namespace weir::http2 {

struct RequestHead {
  bool connect = false;
  std::optional<uint64_t> content_length;
};

struct ResponseHead {
  int status = 0;
  std::optional<uint64_t> content_length;
};

// Each returns what is wrong, or null and fills `head`.
const char* check_request(const http::Headers& headers, RequestHead& head);
const char* check_response(const http::Headers& headers, ResponseHead& head);
const char* check_trailers(const http::Headers& trailers);

}  // namespace weir::http2
