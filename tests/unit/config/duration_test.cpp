#include "config/duration.h"

#include <gtest/gtest.h>

namespace weir::config {
namespace {

using namespace std::chrono_literals;

TEST(Duration, IsReadAsGoWritesIt) {
  const std::pair<const char*, base::Duration> kGood[] = {
      {"2s", 2s},     {"0.5s", 500ms},       {"250ms", 250ms}, {"1h30m", 90min}, {"1h", 1h},
      {"10us", 10us}, {"7ns", 7ns},          {"0", 0s},        {"0s", 0s},       {"1.5h", 90min},
      {".5s", 500ms}, {"1m0.25s", 60'250ms}, {"1s1s", 2s},
  };
  for (const auto& [text, expected] : kGood) {
    const auto parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, expected) << text;
  }
  for (const char* text : {"", "2x", "2", "s", "-1s", "+1s", "1 s", "1s ", " 1s", ".s", "1.2.3s", "1e3s", "0x1s", "1S",
                           "99999999999999999999s", "9999999h9999999h", "1d", "infinity"})
    EXPECT_FALSE(parse_duration(text)) << text;
}

TEST(Duration, IsWrittenAsBriefAsCanBe) {
  for (const char* text : {"2s", "250ms", "1h30m", "0s", "1m250ms", "7ns", "10us", "2h"})
    EXPECT_EQ(to_string(*parse_duration(text)), text);
}

}  // namespace
}  // namespace weir::config
