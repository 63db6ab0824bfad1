// What is learned of undeclared ports, in the map that the BPF programs read.
#include "control/verdict_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

namespace weir::control {
namespace {

using namespace std::chrono_literals;

const base::SocketAddress kRedis{*base::IpAddress::parse("10.96.0.1"), 6379};
const base::SocketAddress kMail{*base::IpAddress::parse("10.96.0.2"), 25};

struct VerdictRowsTest : ::testing::Test {
  std::map<std::pair<uint64_t, base::SocketAddress>, weir_verdict> rows;
  bool fail = false;
  VerdictRows verdicts{{
      [this](uint64_t cookie, const base::SocketAddress& vip, const weir_verdict& row) -> base::Result<void> {
        if (fail) return base::Error{"the map is full"};
        rows[{cookie, vip}] = row;
        return {};
      },
      [this](uint64_t cookie, const base::SocketAddress& vip) -> base::Result<void> {
        if (fail) return base::Error{"no map"};
        rows.erase({cookie, vip});
        return {};
      },
      [this]() -> base::Result<std::vector<interception::Maps::Verdict>> {
        if (fail) return base::Error{"no map"};
        std::vector<interception::Maps::Verdict> all;
        for (const auto& [key, row] : rows) all.push_back({key.first, key.second, row});
        return all;
      },
  }};
  const base::Instant now = base::Instant(1h);

  uint64_t expires(uint64_t cookie, const base::SocketAddress& vip) { return rows.at({cookie, vip}).expires_ns; }
};

TEST_F(VerdictRowsTest, WhatIsLearnedIsWrittenAndForgotten) {
  verdicts.learn(7, kRedis, now + 60s, 64);
  EXPECT_EQ(base::Instant(std::chrono::nanoseconds(expires(7, kRedis))), now + 60s);
  EXPECT_EQ(rows.at({7, kRedis}).sample_every, 64u);
  verdicts.forget(7, kRedis);
  EXPECT_TRUE(rows.empty());
}

TEST_F(VerdictRowsTest, OfAnAddressThatIsAnotherServicesNoneHoldsButAllAreKept) {
  for (uint64_t cookie : {7, 8}) {
    verdicts.learn(cookie, kRedis, now + 60s, 64);
    verdicts.learn(cookie, kMail, now + 60s, 64);
  }
  verdicts.end({kRedis});
  for (uint64_t cookie : {7, 8}) {
    EXPECT_EQ(expires(cookie, kRedis), 0u);
    EXPECT_GT(expires(cookie, kMail), 0u);
  }
}

TEST_F(VerdictRowsTest, RowsOfPodsThatAreGoneAreRemovedThoseOfOthersStayWhenTheirTimeIsOver) {
  verdicts.learn(7, kRedis, now - 1s, 64);
  verdicts.learn(8, kRedis, now + 60s, 64);
  verdicts.sweep({7}, now);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows.begin()->first.first, 7u);
}

TEST_F(VerdictRowsTest, WhenThereAreManyThoseWhoseTimeIsOverGo) {
  for (uint32_t i = 0; i < VerdictRows::kMostKept; ++i) verdicts.learn(7, {base::IpAddress::v4(i), 80}, now - 1s, 64);
  verdicts.sweep({7}, now);
  EXPECT_EQ(rows.size(), VerdictRows::kMostKept);
  verdicts.learn(7, kRedis, now + 60s, 64);
  verdicts.sweep({7}, now);
  EXPECT_EQ(rows.size(), 1u);
  EXPECT_GT(expires(7, kRedis), 0u);
}

TEST_F(VerdictRowsTest, FailuresAreCountedAndToldOfOnceASweep) {
  const auto lines = [](const std::function<void()>& act) {
    testing::internal::CaptureStdout();
    act();
    const std::string told = testing::internal::GetCapturedStdout();
    return std::count(told.begin(), told.end(), '\n');
  };
  fail = true;
  EXPECT_EQ(lines([&] {
              for (int i = 0; i < 100; ++i) verdicts.learn(7, kRedis, now, 64);
              verdicts.forget(7, kRedis);
              verdicts.end({kRedis});
            }),
            1);
  EXPECT_EQ(verdicts.failures(), 102u);
  EXPECT_EQ(lines([&] { verdicts.sweep({7}, now); }), 1);
}

}  // namespace
}  // namespace weir::control
