#include "config/duration.h"

#include <array>
#include <cstdint>

namespace weir::config {
namespace {

struct Unit {
  std::string_view name;
  int64_t nanoseconds;
};

// A unit comes after those that begin with it.
constexpr std::array<Unit, 6> kUnits{{{"ms", 1'000'000},
                                      {"us", 1'000},
                                      {"ns", 1},
                                      {"h", 3'600'000'000'000},
                                      {"m", 60'000'000'000},
                                      {"s", 1'000'000'000}}};
// An int64_t holds 292 years of nanoseconds.
constexpr double kLongest = 200.0 * 365 * 86400 * 1e9;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

std::optional<base::Duration> parse_duration(std::string_view text) {
  if (text == "0") return base::Duration::zero();
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    double number = 0;
    double place = 1;
    bool digits = false;
    bool fraction = false;
    for (; !text.empty() && (is_digit(text.front()) || (text.front() == '.' && !fraction)); text.remove_prefix(1)) {
      if (text.front() == '.') {
        fraction = true;
        continue;
      }
      digits = true;
      number = number * 10 + (text.front() - '0');
      if (fraction) place *= 10;
    }
    if (!digits) return std::nullopt;
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (!text.starts_with(candidate.name)) continue;
      unit = &candidate;
      break;
    }
    if (!unit) return std::nullopt;
    text.remove_prefix(unit->name.size());
    total += number / place * static_cast<double>(unit->nanoseconds);
    if (!(total <= kLongest)) return std::nullopt;
  }
  return base::Duration(static_cast<int64_t>(total + 0.5));
}

std::string to_string(base::Duration duration) {
  int64_t left = duration.count();
  if (left == 0) return "0s";
  std::string text;
  for (const std::string_view name : {"h", "m", "s", "ms", "us", "ns"}) {
    int64_t size = 1;
    for (const Unit& unit : kUnits)
      if (unit.name == name) size = unit.nanoseconds;
    if (left < size) continue;
    text += std::to_string(left / size);
    text += name;
    left %= size;
  }
  return text;
}

}  // namespace weir::config
