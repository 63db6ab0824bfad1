#include "weirctl/table.h"

#include <algorithm>
#include <cmath>

namespace weir::weirctl {
namespace {

// Terminal columns, taking each code point for one.
size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string printable(const std::string& text) {
  std::string out = text;
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) c = '?';
  }
  return out;
}

std::string toned(const std::string& text, Tone tone, bool color) {
  if (!color || tone == Tone::plain) return text;
  const char* code = tone == Tone::good ? "32" : tone == Tone::warn ? "33" : "31";
  return std::string("\x1b[") + code + "m" + text + "\x1b[0m";
}

std::string Table::render(bool wide, bool color) const {
  std::vector<size_t> shown;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (wide || !columns_[i].wide) shown.push_back(i);
  }
  const auto text_of = [&](const std::vector<Cell>& row, size_t i) {
    return row[i].text.empty() ? std::string("-") : printable(row[i].text);
  };
  std::vector<size_t> widths(columns_.size());
  for (const size_t i : shown) {
    widths[i] = width(columns_[i].name);
    for (const auto& row : rows_) widths[i] = std::max(widths[i], width(text_of(row, i)));
  }
  constexpr size_t kGap = 3;
  std::string out;
  const auto put = [&](size_t i, const std::string& text, Tone tone) {
    out += toned(text, tone, color);
    const bool last = i == shown.back();
    out += last ? std::string("\n") : std::string(widths[i] - width(text) + kGap, ' ');
  };
  for (const size_t i : shown) put(i, columns_[i].name, Tone::plain);
  for (const auto& row : rows_) {
    for (const size_t i : shown) put(i, text_of(row, i), row[i].tone);
  }
  return out;
}

std::string human_duration(double seconds) {
  if (seconds < 0) seconds = 0;
  if (seconds < 1) return std::to_string(std::lround(seconds * 1000)) + "ms";
  const auto s = static_cast<int64_t>(seconds);
  const auto two = [](int64_t big, const char* big_unit, int64_t small, const char* small_unit) {
    return std::to_string(big) + big_unit + (small ? std::to_string(small) + small_unit : std::string());
  };
  if (s < 60) return std::to_string(s) + "s";
  if (s < 3600) return two(s / 60, "m", s % 60, "s");
  if (s < 86400) return two(s / 3600, "h", s % 3600 / 60, "m");
  return two(s / 86400, "d", s % 86400 / 3600, "h");
}

}  // namespace weir::weirctl
