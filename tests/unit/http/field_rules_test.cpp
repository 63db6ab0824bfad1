#include "http/field_rules.h"

#include <gtest/gtest.h>

#include <string>

namespace weir::http {
namespace {

using namespace std::string_view_literals;

TEST(FieldRules, Tokens) {
  EXPECT_TRUE(is_token("X-a_1!#$%&'*+.^`|~"));
  EXPECT_TRUE(is_lower_token("x-a"));
  EXPECT_FALSE(is_lower_token("X-a"));
  for (const char* text : {"a b", "a:b", "a,b", "a\tb", "a(b", "\xc3\xa9", "a\x7f"})
    EXPECT_FALSE(is_token(text)) << text;
}

// A control character is found wherever it stands among the words of eight bytes.
TEST(FieldRules, Values) {
  for (const char* text : {"", "a", "a b", "a\tb", "12345678", "123456789 \xc3\xa9"}) EXPECT_TRUE(valid_value(text));
  for (const char* text : {" a", "a ", "\ta", "a\t"}) EXPECT_FALSE(valid_value(text)) << text;
  for (size_t size = 1; size <= 20; ++size) {
    for (size_t at = 0; at < size; ++at) {
      for (const char control : "\0\n\r\x1f\x7f"sv) {
        std::string text(size, 'a');
        text[at] = control;
        EXPECT_FALSE(valid_value(text)) << size << " " << at << " " << int{control};
      }
    }
  }
}

TEST(FieldRules, Authorities) {
  for (const char* text : {"a", "a:80", "[::1]:80"}) EXPECT_TRUE(valid_authority(text)) << text;
  for (const char* text : {"a b", "a\tb", "u@a"}) EXPECT_FALSE(valid_authority(text)) << text;
}

TEST(FieldRules, FieldsOfAConnection) {
  for (const char* name : {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
    EXPECT_NE(connection_specific(name, "x"), nullptr) << name;
  EXPECT_NE(connection_specific("te", "gzip"), nullptr);
  EXPECT_EQ(connection_specific("te", "trailers"), nullptr);
  EXPECT_EQ(connection_specific("date", "x"), nullptr);
}

}  // namespace
}  // namespace weir::http
