#include "grpc/timeout.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>

namespace weir::grpc {
namespace {

using namespace std::chrono_literals;
using base::Duration;

TEST(TimeoutTest, Parses) {
  const std::pair<const char*, Duration> rows[] = {
      {"1n", 1ns},
      {"99999999u", 99999999us},
      {"250m", 250ms},
      {"10S", 10s},
      {"3M", 180s},
      {"2H", 2h},
      {"00000001S", 1s},
      {"0S", 0s},
      {"99999999S", 99999999s},
  };
  for (const auto& [text, value] : rows) EXPECT_EQ(parse_timeout(text), value) << text;
}

TEST(TimeoutTest, WhatADurationCannotHoldIsItsMaximum) {
  EXPECT_EQ(parse_timeout("99999999H"), Duration::max());
  EXPECT_EQ(parse_timeout("2562048H"), Duration::max());
  EXPECT_EQ(parse_timeout("2562047H"), Duration(2562047h));
  EXPECT_EQ(parse_timeout("99999999M"), Duration(99999999min));
}

TEST(TimeoutTest, RejectsWhatIsNone) {
  for (const char* bad :
       {"", "S", "1", "1s", "1h", "-1S", "+1S", " 1S", "1S ", "1.5S", "123456789S", "1SS", "1x", "S1"}) {
    EXPECT_EQ(parse_timeout(bad), std::nullopt) << bad;
  }
}

TEST(TimeoutTest, FormatsInTheFinestUnitThatFits) {
  const std::pair<Duration, const char*> rows[] = {
      {1ns, "1n"},      {99'999'999ns, "99999999n"}, {100'000'000ns, "100000u"}, {100'000'001ns, "100001u"},
      {1s, "1000000u"}, {100s, "100000m"},           {28h, "100800S"},           {Duration(0), "1n"},
      {-5s, "1n"},
  };
  for (const auto& [value, text] : rows) {
    EXPECT_EQ(TimeoutText(value).view(), text);
  }
  EXPECT_EQ(TimeoutText(Duration::max()).view(), "2562048H");
}

TEST(TimeoutTest, RoundsUpByLessThanAThousandth) {
  for (int64_t n = 1; n > 0 && n < INT64_MAX / 3; n = n * 3 + 1) {
    const Duration value(n);
    const auto back = parse_timeout(TimeoutText(value).view());
    ASSERT_TRUE(back);
    EXPECT_GE(*back, value);
    EXPECT_LE((*back - value).count(), n / 1000);
  }
}

}  // namespace
}  // namespace weir::grpc
