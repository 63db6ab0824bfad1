#include "grpc/message.h"

#include <algorithm>

namespace weir::grpc {
namespace {

constexpr std::string_view kHex = "0123456789ABCDEF";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string percent_encode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<uint8_t>(c);
    const bool space_at_end = c == ' ' && (i == 0 || i + 1 == text.size());
    if (byte >= 0x20 && byte <= 0x7e && c != '%' && !space_at_end) {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 0xf];
    }
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && text.size() - i > 2 ? hex_value(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_value(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

void MessageCounter::add(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    if (left_ > 0) {
      const size_t n = std::min<size_t>(left_, bytes.size());
      left_ -= static_cast<uint32_t>(n);
      bytes = bytes.subspan(n);
      if (left_ == 0) ++complete_;
      continue;
    }
    const size_t n = std::min(prefix_.size() - prefix_size_, bytes.size());
    std::copy_n(bytes.begin(), n, prefix_.begin() + prefix_size_);
    prefix_size_ = static_cast<uint8_t>(prefix_size_ + n);
    bytes = bytes.subspan(n);
    if (prefix_size_ < prefix_.size()) continue;
    prefix_size_ = 0;
    left_ = uint32_t{prefix_[1]} << 24 | uint32_t{prefix_[2]} << 16 | uint32_t{prefix_[3]} << 8 | prefix_[4];
    if (left_ == 0) ++complete_;
  }
}

}  // namespace weir::grpc
