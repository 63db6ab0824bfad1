#include "interception/heartbeats.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>

namespace weir::interception {
namespace {

using namespace std::chrono_literals;

constexpr base::Instant kNow{24h};

uint64_t ns(base::Instant when) { return static_cast<uint64_t>(when.time_since_epoch().count()); }

struct HeartbeatsTest : testing::Test {
  std::array<weir_heartbeat, 4> rows{};
  Heartbeats older{rows, 7}, newer{rows, 8};
};

TEST_F(HeartbeatsTest, EachClaimGetsASlotOfItsOwnAndBeatsAtOnce) {
  for (uint16_t slot = 0; slot < 2; ++slot) {
    EXPECT_EQ(older.claim(kNow)->slot(), slot);
    EXPECT_EQ(rows[slot].generation, 7u);
    EXPECT_EQ(rows[slot].beat_ns, ns(kNow));
  }
  EXPECT_EQ(newer.claim(kNow)->slot(), 2);
}

TEST_F(HeartbeatsTest, BeatIsSeenInItsSlotOnly) {
  const Heartbeat first = older.claim(kNow).value(), second = older.claim(kNow).value();
  second.beat(kNow + 250ms);
  EXPECT_EQ(rows[first.slot()].beat_ns, ns(kNow));
  EXPECT_EQ(rows[second.slot()].beat_ns, ns(kNow + 250ms));
}

TEST_F(HeartbeatsTest, LongestSilentSlotIsClaimedFirst) {
  rows = {{{1, ns(kNow - 20s)}, {2, ns(kNow - 40s)}, {3, ns(kNow)}, {4, ns(kNow - 30s)}}};
  for (uint16_t expected : {1, 3, 0}) EXPECT_EQ(newer.claim(kNow)->slot(), expected);
}

TEST_F(HeartbeatsTest, AnotherAgentIsSeenUntilItHasBeenSilentForTenSeconds) {
  EXPECT_FALSE(newer.others_beat(kNow));
  ASSERT_TRUE(newer.claim(kNow).ok());
  EXPECT_FALSE(newer.others_beat(kNow)) << "its own";
  const Heartbeat other = older.claim(kNow).value();
  EXPECT_TRUE(newer.others_beat(kNow + 9s));
  EXPECT_TRUE(older.others_beat(kNow + 9s));
  other.beat(kNow + 5s);
  EXPECT_TRUE(newer.others_beat(kNow + 14s));
  EXPECT_FALSE(newer.others_beat(kNow + 16s));
}

TEST_F(HeartbeatsTest, SlotsUsedWithinTenSecondsAreNotClaimed) {
  rows = {{{1, ns(kNow)}, {2, ns(kNow - 9s)}, {3, ns(kNow - 1500ms)}, {4, ns(kNow + 1s)}}};
  const auto claimed = newer.claim(kNow);
  ASSERT_FALSE(claimed.ok());
  EXPECT_EQ(claimed.error().code, ENOSPC);
  EXPECT_EQ(newer.claim(kNow + 1001ms)->slot(), 1);
}

TEST_F(HeartbeatsTest, AgentThatWakesUpAfterItsSlotWasClaimedDoesNotBeatForTheOther) {
  const Heartbeat asleep = older.claim(kNow - 1h).value();
  for (weir_heartbeat& row : rows)
    if (row.generation == 0) row = {9, ns(kNow)};
  const Heartbeat awake = newer.claim(kNow).value();
  ASSERT_EQ(awake.slot(), asleep.slot());
  asleep.beat(kNow + 5s);
  EXPECT_EQ(rows[awake.slot()].beat_ns, ns(kNow));
  awake.beat(kNow + 1s);
  EXPECT_EQ(rows[awake.slot()].beat_ns, ns(kNow + 1s));
}

}  // namespace
}  // namespace weir::interception
