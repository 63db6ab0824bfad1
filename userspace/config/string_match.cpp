#include "config/string_match.h"

#include <re2/re2.h>

#include "config/ascii.h"

namespace weir::config {
namespace {

// Of one compiled pattern, both directions; RE2 refuses what needs more.
constexpr int64_t kMaxRegexMemory = 1 << 20;
// Of the bounds of what a pattern matches.
constexpr int kBoundBytes = 32;

bool equal(std::string_view a, std::string_view b, bool ignore_case) {
  return ignore_case ? equal_ignoring_case(a, b) : a == b;
}

}  // namespace

// Compiled, and the bounds, in the order of bytes, of what it matches: most values that don't match lie outside, which
// takes a few nanoseconds to see where running the regex takes a hundred.
struct StringMatch::Pattern {
  Pattern(const std::string& pattern, const re2::RE2::Options& options) : compiled(pattern, options) {
    bounded = compiled.ok() && compiled.PossibleMatchRange(&least, &greatest, kBoundBytes);
  }
  bool matches(std::string_view value) const {
    if (bounded && (value < least || value > greatest)) return false;
    return re2::RE2::FullMatch(re2::StringPiece(value.data(), value.size()), compiled);
  }

  re2::RE2 compiled;
  std::string least, greatest;
  bool bounded;
};

base::Result<StringMatch> StringMatch::regex(std::string pattern) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMaxRegexMemory);
  auto regex = std::make_shared<const Pattern>(pattern, options);
  if (!regex->compiled.ok()) return base::Error{regex->compiled.error()};
  StringMatch match(Kind::regex, std::move(pattern));
  match.regex_ = std::move(regex);
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
      return regex_->matches(value);
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
