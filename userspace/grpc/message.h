// gRPC's own layers above HTTP/2: the percent-encoding of grpc-message, and the
// length-prefixed messages inside bodies (gRPC over HTTP2, "Length-Prefixed-Message").
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace weir::grpc {

// Everything but printable ASCII, '%', and spaces at the ends (field values have none) becomes %XX.
std::string percent_encode(std::string_view text);
// Sequences that are no %XX stay as they are: a broken message is better than none.
std::string percent_decode(std::string_view text);

// Counts the messages in a body that arrives in parts of any size: a five-byte prefix
// (compressed flag, big-endian length), then that many bytes. Keeps nothing but where it is.
class MessageCounter {
 public:
  void add(std::span<const uint8_t> bytes);
  // Messages of which all bytes have come.
  uint64_t complete() const { return complete_; }
  // Nothing has come of the next message: the body may end here.
  bool at_boundary() const { return prefix_size_ == 0 && left_ == 0; }

 private:
  std::array<uint8_t, 5> prefix_{};
  uint8_t prefix_size_ = 0;
  uint32_t left_ = 0;  // of the current message's bytes
  uint64_t complete_ = 0;
};

}  // namespace weir::grpc
