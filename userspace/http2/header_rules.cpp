#include "http2/header_rules.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace weir::http2 {
namespace {

using Text = std::string_view;

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
constexpr bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

// RFC 9110 section 5.6.2 tokens; `upper` adds the letters that HTTP/2 bans from field names.
constexpr std::array<bool, 256> token_table(bool upper) {
  std::array<bool, 256> table{};
  for (int i = 0; i < 256; ++i) {
    const char c = static_cast<char>(i);
    table[static_cast<size_t>(i)] = is_digit(c) || is_lower(c) || (upper && is_upper(c));
  }
  for (const char c : Text("!#$%&'*+-.^_`|~")) table[static_cast<uint8_t>(c)] = true;
  return table;
}
constexpr auto kNameCharacters = token_table(false);
constexpr auto kTokenCharacters = token_table(true);
constexpr uint64_t kSpaces = 0x2020202020202020;

bool all_in(Text text, const std::array<bool, 256>& table) {
  bool ok = true;
  for (const char c : text) ok &= table[static_cast<uint8_t>(c)];
  return ok;
}

// Whether any of eight bytes is a control character other than HTAB. Exact for whole words without a control
// character; with one (or with HTAB) the bytes are looked at one by one.
bool has_control(uint64_t eight) {
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

uint64_t load(const char* at, size_t n) {
  uint64_t word = kSpaces;
  std::memcpy(&word, at, n);
  return word;
}

// No control characters but HTAB (RFC 9110 section 5.5), no white space at the ends (RFC 9113 section 8.2.1).
bool valid_value(Text value) {
  if (value.empty()) return true;
  const auto blank = [](char c) { return c == ' ' || c == '\t'; };
  if (blank(value.front()) || blank(value.back())) return false;
  if (value.size() < 8) return !has_control(load(value.data(), value.size()));
  // The last word overlaps the one before it.
  const char* const last = value.data() + value.size() - 8;
  for (const char* at = value.data(); at < last; at += 8) {
    if (has_control(load(at, 8))) return false;
  }
  return !has_control(load(last, 8));
}

// Connection-specific fields (8.2.2). `name` and `value` are already known to be well-formed.
const char* check_connection_specific(Text name, Text value) {
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

const char* check_content_length(Text value, std::optional<uint64_t>& length) {
  if (length) return "more than one content-length";
  if (value.empty() || value.size() > 18 || !std::all_of(value.begin(), value.end(), is_digit)) {
    return "content-length is no number";
  }
  uint64_t n = 0;
  for (const char c : value) n = n * 10 + static_cast<uint64_t>(c - '0');
  length = n;
  return nullptr;
}

// A pseudo-header field may be there once.
const char* take(std::optional<Text>& slot, Text value) {
  if (slot) return "repeated pseudo-header field";
  slot = value;
  return nullptr;
}

// Walks the section: pseudo-header fields go to `pseudo`, regular ones to `regular` once they are
// known to be well-formed; either returns what is wrong.
template <class Pseudo, class Regular>
const char* walk(const http::Headers& headers, Pseudo pseudo, Regular regular) {
  bool in_regular = false;
  for (const http::Field field : headers) {
    if (field.name.empty()) return "empty field name";
    if (!valid_value(field.value)) return "invalid character in a field value";
    const char* wrong = nullptr;
    if (field.name[0] == ':') {
      if (in_regular) return "pseudo-header field after a regular field";
      wrong = pseudo(field.name.substr(1), field.value);
    } else {
      in_regular = true;
      if (!all_in(field.name, kNameCharacters)) return "invalid character in a field name";
      wrong = check_connection_specific(field.name, field.value);
      if (!wrong) wrong = regular(field.name, field.value);
    }
    if (wrong) return wrong;
  }
  return nullptr;
}

bool equal_ignoring_case(Text a, Text b) {
  const auto lower = [](char c) { return is_upper(c) ? static_cast<char>(c + 32) : c; };
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [&](char x, char y) { return lower(x) == lower(y); });
}

bool valid_scheme(Text scheme) {
  return !scheme.empty() && (is_lower(scheme[0]) || is_upper(scheme[0])) &&
         std::all_of(scheme.begin(), scheme.end(), [](char c) {
           return is_lower(c) || is_upper(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
         });
}

bool has_blank(Text text) { return text.find(' ') != Text::npos || text.find('\t') != Text::npos; }

}  // namespace

const char* check_request(const http::Headers& headers, RequestHead& head) {
  std::optional<Text> method, scheme, authority, path, host;
  const char* wrong = walk(
      headers,
      [&](Text name, Text value) -> const char* {
        if (name == "method") return take(method, value);
        if (name == "scheme") return take(scheme, value);
        if (name == "path") return take(path, value);
        if (name == "authority") return take(authority, value);
        // :protocol too: it needs SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441), which we never send.
        return "unknown pseudo-header field in a request";
      },
      [&](Text name, Text value) -> const char* {
        if (name == "content-length") return check_content_length(value, head.content_length);
        if (name == "host") {
          if (host) return "more than one host";
          host = value;
        }
        return nullptr;
      });
  if (wrong) return wrong;
  if (!method || method->empty() || !all_in(*method, kTokenCharacters)) return "missing or invalid :method";
  if (authority && (has_blank(*authority) || authority->find('@') != Text::npos)) return "invalid :authority";
  if (authority && host && !equal_ignoring_case(*authority, *host)) return "host differs from :authority";
  head.connect = *method == "CONNECT";
  if (head.connect) {
    // Section 8.5.
    if (scheme || path) return "CONNECT with :scheme or :path";
    return authority && !authority->empty() ? nullptr : "CONNECT without :authority";
  }
  if (!scheme || !valid_scheme(*scheme)) return "missing or invalid :scheme";
  if (!path || path->empty() || has_blank(*path)) return "missing or invalid :path";
  if (path->front() != '/' && !(*path == "*" && *method == "OPTIONS")) return ":path does not begin with /";
  return nullptr;
}

const char* check_response(const http::Headers& headers, ResponseHead& head) {
  std::optional<Text> status;
  const char* wrong = walk(
      headers,
      [&](Text name, Text value) -> const char* {
        return name == "status" ? take(status, value) : "unknown pseudo-header field in a response";
      },
      [&](Text name, Text value) -> const char* {
        return name == "content-length" ? check_content_length(value, head.content_length) : nullptr;
      });
  if (wrong) return wrong;
  if (!status || status->size() != 3 || !std::all_of(status->begin(), status->end(), is_digit) || (*status)[0] == '0') {
    return "missing or invalid :status";
  }
  for (const char c : *status) head.status = head.status * 10 + (c - '0');
  // Section 8.6.
  return head.status == 101 ? "101 in HTTP/2" : nullptr;
}

const char* check_trailers(const http::Headers& trailers) {
  return walk(
      trailers, [](Text, Text) { return "pseudo-header field in trailers"; },
      [](Text, Text) -> const char* { return nullptr; });
}

}  // namespace weir::http2
