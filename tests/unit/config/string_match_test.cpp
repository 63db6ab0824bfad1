#include "config/string_match.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include <string>
#include <vector>

#include "../chance.h"

namespace weir::config {
namespace {

StringMatch regex(const char* pattern) { return StringMatch::regex(pattern).value(); }
StringMatch ignoring_case(StringMatch match) {
  match.ignore_case();
  return match;
}

TEST(StringMatch, MatchesAsIstioSays) {
  struct Case {
    StringMatch match;
    const char* value;
    bool expected;
  };
  const Case kCases[] = {
      {StringMatch::exact("application/grpc"), "application/grpc", true},
      {StringMatch::exact("application/grpc"), "application/grpc+proto", false},
      {StringMatch::exact("application/grpc"), "Application/grpc", false},
      {ignoring_case(StringMatch::exact("/Pkg")), "/pKG", true},
      {StringMatch::prefix("application/grpc"), "application/grpc+proto", true},
      {StringMatch::prefix("application/grpc"), "application/grp", false},
      {StringMatch::prefix(""), "", true},
      {ignoring_case(StringMatch::prefix("/PKG.")), "/pkg.Service/Method", true},
      {regex("v[12]"), "v1", true},
      {regex("v[12]"), "v12", false},  // all of it
      {regex(".*v1"), "xv1", true},
      {regex("(?i)V1"), "v1", true},
      {regex(""), "", true},
      {regex(""), "x", false},
      {StringMatch(), "", true},
      {StringMatch(), "anything", true},
  };
  for (const Case& c : kCases) EXPECT_EQ(c.match.matches(c.value), c.expected) << c.match.to_string() << " " << c.value;
}

// What is seen without running the regex must be what RE2 says: patterns and values of few bytes, so that they often
// meet.
TEST(StringMatchProperties, ARegexMatchesWhatRe2SaysItMatches) {
  const std::vector<std::string> parts = {"a", "b",   "ab",      ".",   "[ab]", "[^a]", "\\xff",
                                          "é", "\\.", "(?i:aB)", "\\d", "^",    "$",    "\\b"};
  const std::vector<std::string> counts = {"", "", "", "?", "*", "+", "{2}", "|"};
  const std::vector<std::string> bytes = {
      "a", "b", "A", "B", ".", "1", "é", "\xff", std::string(1, '\0'), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
  uint64_t found = 0;
  chance::for_seeds(20'000, [&](std::mt19937_64& random) {
    const auto text = [&](const auto&... lists) {
      std::string result;
      for (uint64_t left = chance::between(random, 0, 4); left > 0; --left)
        ((result += lists[chance::between(random, 0, lists.size() - 1)]), ...);
      return result;
    };
    const std::string pattern = text(parts, counts);
    auto match = StringMatch::regex(pattern);
    if (!match) return;
    const re2::RE2 re2(pattern, re2::RE2::Quiet);
    for (int i = 0; i < 20; ++i) {
      const std::string value = text(bytes);
      const bool expected = re2::RE2::FullMatch(value, re2);
      found += expected ? 1 : 0;
      EXPECT_EQ(match->matches(value), expected) << pattern << " and " << value;
    }
  });
  EXPECT_GT(found, 10'000u);
}

TEST(StringMatch, RefusesWhatIsNoRegex) {
  for (const char* pattern : {"(", "[", "a**", "\\8", "(?<n>x)", "x{1001}", "((((x{100}){100}){100}){100})"}) {
    const auto match = StringMatch::regex(pattern);
    ASSERT_FALSE(match) << pattern;
    EXPECT_FALSE(match.error().message.empty());
  }
}

TEST(StringMatch, ComparesByWhatItAsks) {
  EXPECT_EQ(regex("a+"), regex("a+"));
  EXPECT_NE(regex("a+"), regex("a*"));
  EXPECT_NE(StringMatch::exact("a"), StringMatch::prefix("a"));
  EXPECT_NE(StringMatch::exact("a"), ignoring_case(StringMatch::exact("a")));
}

}  // namespace
}  // namespace weir::config
