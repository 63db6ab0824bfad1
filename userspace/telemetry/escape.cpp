#include "telemetry/escape.h"

#include <cstdint>

namespace weir::telemetry {
namespace {

constexpr char kHex[] = "0123456789abcdef";

uint8_t byte_at(std::string_view text, size_t i) { return static_cast<uint8_t>(text[i]); }

// The length of the well-formed UTF-8 sequence at `i`, 0 if it is none (RFC 3629 section 4).
size_t sequence_length(std::string_view text, size_t i) {
  const uint8_t lead = byte_at(text, i);
  if (lead < 0x80) return 1;
  size_t length = 0;
  uint8_t low = 0x80, high = 0xBF;  // of the second byte: no overlong forms, surrogates, or beyond U+10FFFF
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (i + length > text.size()) return 0;
  if (byte_at(text, i + 1) < low || byte_at(text, i + 1) > high) return 0;
  for (size_t k = 2; k < length; ++k) {
    if ((byte_at(text, i + k) & 0xC0) != 0x80) return 0;
  }
  return length;
}

// C0, DEL, and C1 controls in their two-byte form: terminals act on them.
bool is_control(std::string_view text, size_t i, size_t length) {
  const uint8_t lead = byte_at(text, i);
  return lead < 0x20 || lead == 0x7F || (length == 2 && lead == 0xC2 && byte_at(text, i + 1) < 0xA0);
}

void append_hex(std::string& out, uint8_t byte) {
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

}  // namespace

void append_escaped(std::string& out, std::string_view value) {
  for (size_t i = 0; i < value.size();) {
    const size_t length = sequence_length(value, i);
    if (length == 0 || is_control(value, i, length) || value[i] == '"' || value[i] == '\\') {
      for (size_t k = 0; k < (length ? length : 1); ++k) {
        out += "\\x";
        append_hex(out, byte_at(value, i + k));
      }
    } else {
      out.append(value.substr(i, length));
    }
    i += length ? length : 1;
  }
}

void append_json_string(std::string& out, std::string_view value) {
  out += '"';
  for (size_t i = 0; i < value.size();) {
    const size_t length = sequence_length(value, i);
    if (length == 0) {
      out += "\\ufffd";
    } else if (value[i] == '"' || value[i] == '\\') {
      out += '\\';
      out += value[i];
    } else if (is_control(value, i, length)) {
      out += "\\u00";
      append_hex(out, byte_at(value, i + length - 1));
    } else {
      out.append(value.substr(i, length));
    }
    i += length ? length : 1;
  }
  out += '"';
}

}  // namespace weir::telemetry
