// ASCII text without regard to case, whatever the locale.
#pragma once

#include <algorithm>
#include <string_view>

namespace weir::config {

inline bool equal_ignoring_case(std::string_view a, std::string_view b) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

}  // namespace weir::config
