// What a single field may be, wherever it comes from: a peer's header section or a manifest (RFC 9110 section 5,
// RFC 9113 sections 8.2 and 8.3). Inline: every field of every RPC passes here.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace weir::http {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

namespace detail {

// RFC 9110 section 5.6.2 tokens; `upper` adds the letters that HTTP/2 bans from field names.
constexpr std::array<bool, 256> token_table(bool upper) {
  std::array<bool, 256> table{};
  for (int i = 0; i < 256; ++i) {
    const char c = static_cast<char>(i);
    table[static_cast<size_t>(i)] = is_digit(c) || is_lower(c) || (upper && is_upper(c));
  }
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<uint8_t>(c)] = true;
  return table;
}
inline constexpr auto kNameCharacters = token_table(false);
inline constexpr auto kTokenCharacters = token_table(true);

inline bool all_in(std::string_view text, const std::array<bool, 256>& table) {
  bool ok = true;
  for (const char c : text) ok &= table[static_cast<uint8_t>(c)];
  return ok;
}

// Whether any of eight bytes is a control character other than HTAB. Exact for whole words without a control
// character; with one (or with HTAB) the bytes are looked at one by one.
inline bool has_control(uint64_t eight) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHighs = 0x8080808080808080;
  const uint64_t below_space = (eight - kOnes * 0x20) & ~eight & kHighs;
  const uint64_t from_del = eight ^ kOnes * 0x7f;
  const uint64_t is_del = (from_del - kOnes) & ~from_del & kHighs;
  if ((below_space | is_del) == 0) return false;
  for (int i = 0; i < 8; ++i) {
    const auto byte = static_cast<uint8_t>(eight >> 8 * i);
    if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return true;
  }
  return false;
}

inline uint64_t load(const char* at, size_t n) {
  uint64_t word = 0x2020202020202020;  // spaces
  std::memcpy(&word, at, n);
  return word;
}

}  // namespace detail

// Characters of a token; the empty text passes.
inline bool is_token(std::string_view text) { return detail::all_in(text, detail::kTokenCharacters); }
// The same without upper-case letters: what HTTP/2 wants of field names.
inline bool is_lower_token(std::string_view text) { return detail::all_in(text, detail::kNameCharacters); }

inline bool has_blank(std::string_view text) { return text.find_first_of(" \t") != std::string_view::npos; }

// No control characters but HTAB (RFC 9110 section 5.5), no white space at the ends (RFC 9113 section 8.2.1).
inline bool valid_value(std::string_view value) {
  if (value.empty()) return true;
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  if (blank(value.front()) || blank(value.back())) return false;
  if (value.size() < 8) return !detail::has_control(detail::load(value.data(), value.size()));
  // The last word overlaps the one before it.
  const char* const last = value.data() + value.size() - 8;
  for (const char* at = value.data(); at < last; at += 8) {
    if (detail::has_control(detail::load(at, 8))) return false;
  }
  return !detail::has_control(detail::load(last, 8));
}

// :authority, of a value that is valid: no userinfo (RFC 9113 section 8.3.1).
inline bool valid_authority(std::string_view authority) {
  return !has_blank(authority) && authority.find('@') == std::string_view::npos;
}

// Connection-specific fields (RFC 9113 section 8.2.2): what is wrong with this one, or null. `name` is in lower case.
inline const char* connection_specific(std::string_view name, std::string_view value) {
  switch (name.size()) {
    case 2:
      if (name == "te" && value != "trailers") return "te other than trailers";
      return nullptr;
    case 7:
      return name == "upgrade" ? "connection-specific field upgrade" : nullptr;
    case 10:
      return name == "connection" || name == "keep-alive" ? "connection-specific field" : nullptr;
    case 16:
      return name == "proxy-connection" ? "connection-specific field proxy-connection" : nullptr;
    case 17:
      return name == "transfer-encoding" ? "connection-specific field transfer-encoding" : nullptr;
    default:
      return nullptr;
  }
}

}  // namespace weir::http
