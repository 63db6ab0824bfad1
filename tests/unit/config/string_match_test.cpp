#include "config/string_match.h"

#include <gtest/gtest.h>

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
