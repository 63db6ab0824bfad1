#include "http2/header_rules.h"

#include <algorithm>
#include <string_view>

#include "http/field_rules.h"

namespace weir::http2 {
namespace {

using http::is_digit;
using http::is_lower;
using http::is_upper;
using Text = std::string_view;

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
    if (!http::valid_value(field.value)) return "invalid character in a field value";
    const char* wrong = nullptr;
    if (field.name[0] == ':') {
      if (in_regular) return "pseudo-header field after a regular field";
      wrong = pseudo(field.name.substr(1), field.value);
    } else {
      in_regular = true;
      if (!http::is_lower_token(field.name)) return "invalid character in a field name";
      wrong = http::connection_specific(field.name, field.value);
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
  if (!method || method->empty() || !http::is_token(*method)) return "missing or invalid :method";
  if (authority && !http::valid_authority(*authority)) return "invalid :authority";
  if (authority && host && !equal_ignoring_case(*authority, *host)) return "host differs from :authority";
  head.connect = *method == "CONNECT";
  if (head.connect) {
    // Section 8.5.
    if (scheme || path) return "CONNECT with :scheme or :path";
    return authority && !authority->empty() ? nullptr : "CONNECT without :authority";
  }
  if (!scheme || !valid_scheme(*scheme)) return "missing or invalid :scheme";
  if (!path || path->empty() || http::has_blank(*path)) return "missing or invalid :path";
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
