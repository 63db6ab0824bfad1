#include "config/string_match.h"

#include <re2/re2.h>

#include <algorithm>

namespace weir::config {
namespace {

// Of one compiled pattern, both directions; RE2 refuses what needs more.
constexpr int64_t kMaxRegexMemory = 1 << 20;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal(std::string_view a, std::string_view b, bool ignore_case) {
  if (!ignore_case) return a == b;
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

}  // namespace

base::Result<StringMatch> StringMatch::regex(std::string pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMaxRegexMemory);
  auto compiled = std::make_shared<const re2::RE2>(pattern, options);
  if (!compiled->ok()) return base::Error{compiled->error()};
  StringMatch match(Kind::regex, std::move(pattern));
  match.regex_ = std::move(compiled);
  return match;
}

bool StringMatch::matches(std::string_view value) const {
  switch (kind_) {
    case Kind::present:
      return true;
    case Kind::exact:
      return equal(value, text_, ignore_case_);
    case Kind::prefix:
      return value.size() >= text_.size() && equal(value.substr(0, text_.size()), text_, ignore_case_);
    case Kind::regex:
      return re2::RE2::FullMatch(re2::StringPiece(value.data(), value.size()), *regex_);
  }
  return false;
}

std::string StringMatch::to_string() const {
  switch (kind_) {
    case Kind::present:
      return "present";
    case Kind::exact:
      return "exact \"" + text_ + "\"";
    case Kind::prefix:
      return "prefix \"" + text_ + "\"";
    case Kind::regex:
      return "regex \"" + text_ + "\"";
  }
  return {};
}

}  // namespace weir::config
