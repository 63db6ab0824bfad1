#include <gtest/gtest.h>

#include <string_view>

#include "detection/classify.h"

namespace weir::detection {
namespace {

TEST(MayBeHttp2, IsTrueForPrefixesOfThePrefaceAndWhatFollowsIt) {
  const struct {
    std::string_view bytes;
    bool may;
  } cases[] = {
      {"", true},
      {"P", true},
      {"PRI * HTTP/2.0\r\n", true},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes", true},
      {"G", false},
      {"PO", false},
      {"PRI * HTTP/1.1\r\n", false},
      {"PRI * HTTP/2.0\r\n\r\nXX", false},
      {"\x16", false},
  };
  for (const auto& c : cases) {
    const auto* data = reinterpret_cast<const uint8_t*>(c.bytes.data());
    EXPECT_EQ(may_be_http2({data, c.bytes.size()}), c.may) << c.bytes;
  }
}

TEST(MayBeSettings, IsTrueForPartsOfTheHeaderOfASettingsFrame) {
  using namespace std::string_view_literals;
  const struct {
    std::string_view bytes;
    bool may, whole;
  } cases[] = {
      {""sv, true, false},
      {"\0"sv, true, false},
      {"\0\0\x12"sv, true, false},
      {"\0\0\x12\x04\0\0\0\0"sv, true, false},
      {"\0\0\x12\x04\0\0\0\0\0"sv, true, true},
      {"\0\0\0\x04\0\0\0\0\0and more"sv, true, true},
      {"\0\x3f\xfc\x04\0\0\0\0\0"sv, true, true},    // 16380 bytes
      {"\0\x40\x02\x04\0\0\0\0\0"sv, false, false},  // 16386: more than anybody has allowed
      {"\0\0\x07"sv, false, false},                  // no whole entries
      {"\1"sv, false, false},                        // too long
      {"\0\0\0\x06"sv, false, false},                // PING
      {"\0\0\0\x04\1"sv, false, false},              // an ACK
      {"\0\0\0\x04\0\x80"sv, false, false},          // the reserved bit
      {"\0\0\0\x04\0\0\0\0\1"sv, false, false},      // a stream's
      {"SSH-2.0-OpenSSH"sv, false, false},
      {"\x4a\0\0\0\x0a"sv, false, false},  // MySQL
      {"220 mail"sv, false, false},
  };
  for (const auto& c : cases) {
    const std::span bytes{reinterpret_cast<const uint8_t*>(c.bytes.data()), c.bytes.size()};
    EXPECT_EQ(may_be_settings(bytes), c.may) << c.bytes;
    EXPECT_EQ(begins_with_settings(bytes), c.whole) << c.bytes;
  }
}

TEST(Verdict, IsWhatTheClientSaidFirst) {
  const auto of = [](std::string_view text) {
    return to_string(verdict_of({reinterpret_cast<const uint8_t*>(text.data()), text.size()}));
  };
  EXPECT_STREQ(of("GET / HTTP/1.1\r\n"), "http1");
  EXPECT_STREQ(of(std::string_view("\x16\x03\x01\x00\xf4\x01", 6)), "tls");
  EXPECT_STREQ(of("*1\r\n"), "tcp");
  EXPECT_STREQ(of("G"), "tcp");
  EXPECT_STREQ(to_string(Verdict::server_first), "server_first");
  EXPECT_STREQ(to_string(Verdict::silent), "silent");
}

}  // namespace
}  // namespace weir::detection
