// StringMatch: how Istio compares a string of a request (its StringMatch, and the empty match of a header,
// which asks for its presence). Copies share the compiled regex.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace weir::config {

class StringMatch {
 public:
  enum class Kind : uint8_t { present, exact, prefix, regex };

  // Any value, the empty one too.
  StringMatch() = default;
  static StringMatch exact(std::string text) { return StringMatch(Kind::exact, std::move(text)); }
  static StringMatch prefix(std::string text) { return StringMatch(Kind::prefix, std::move(text)); }
  // RE2 syntax; the whole value has to match, as in Envoy. Error: what RE2 says of `pattern`.
  static base::Result<StringMatch> regex(std::string pattern);

  // Of exact and prefix, ASCII only (VirtualService ignoreUriCase); a regex has (?i) for it.
  void ignore_case() { ignore_case_ = true; }

  bool matches(std::string_view value) const;
  Kind kind() const { return kind_; }
  const std::string& text() const { return text_; }
  // For people: `prefix "/a"`.
  std::string to_string() const;
  bool operator==(const StringMatch& other) const {
    return kind_ == other.kind_ && text_ == other.text_ && ignore_case_ == other.ignore_case_;
  }

 private:
  StringMatch(Kind kind, std::string text) : kind_(kind), text_(std::move(text)) {}

  Kind kind_ = Kind::present;
  bool ignore_case_ = false;
  std::string text_;
  struct Pattern;
  std::shared_ptr<const Pattern> regex_;
};

}  // namespace weir::config
