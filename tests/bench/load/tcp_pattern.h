// The bytes that tcp_load and tcp_backend's greeting consist of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench {

constexpr size_t kMessage = 32;  // of a greeting, and of what is said once
// A prime, so that a chunk that is lost or comes twice shows.
constexpr size_t kPatternPeriod = 65521;

// A period, and `more` bytes of the next: from every offset in the period there are as many in a row. It is no
// beginning of HTTP/2 (0x16 is that of TLS).
inline std::vector<uint8_t> make_pattern(size_t more) {
  std::vector<uint8_t> bytes(kPatternPeriod + more);
  uint32_t state = 1;
  for (size_t i = 0; i < kPatternPeriod; i++)
    bytes[i] = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  bytes[0] = 0x16;
  for (size_t i = 0; i < more; i++) bytes[kPatternPeriod + i] = bytes[i];
  return bytes;
}

}  // namespace bench
