#include "grpc/timeout.h"

#include <cstdint>

namespace weir::grpc {
namespace {

struct Unit {
  char letter;
  int64_t nanoseconds;
};
constexpr std::array<Unit, 6> kUnits = {{
    {'n', 1},
    {'u', 1'000},
    {'m', 1'000'000},
    {'S', 1'000'000'000},
    {'M', 60'000'000'000},
    {'H', 3'600'000'000'000},
}};
constexpr int64_t kMaxValue = 99'999'999;

}  // namespace

std::optional<base::Duration> parse_timeout(std::string_view value) {
  if (value.size() < 2 || value.size() > 9) return std::nullopt;
  int64_t n = 0;
  for (const char c : value.substr(0, value.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    n = n * 10 + (c - '0');
  }
  for (const Unit& unit : kUnits) {
    if (unit.letter != value.back()) continue;
    if (n > INT64_MAX / unit.nanoseconds) return base::Duration::max();
    return base::Duration(n * unit.nanoseconds);
  }
  return std::nullopt;
}

TimeoutText::TimeoutText(base::Duration timeout) {
  const int64_t total = timeout.count() > 0 ? timeout.count() : 1;
  for (const Unit& unit : kUnits) {
    int64_t n = total / unit.nanoseconds + (total % unit.nanoseconds != 0 ? 1 : 0);
    if (n > kMaxValue) continue;  // never for hours: 2^63 ns are 2.6 million
    text_[--begin_] = unit.letter;
    for (; n > 0; n /= 10) text_[--begin_] = static_cast<char>('0' + n % 10);
    return;
  }
}

}  // namespace weir::grpc
