#include "kubernetes/group_lookup.h"

#include <gtest/gtest.h>

namespace weir::kubernetes {
namespace {

using base::Instant;
using std::chrono::seconds;
using News = GroupLookup::News;

class GroupLookupTest : public testing::Test {
 protected:
  // Waits until a request is due, and answers it. Returns how long that took.
  base::Duration answer(int status, const std::string& error = "") {
    const auto due = lookup.due();
    EXPECT_TRUE(due);
    const base::Duration waited = *due - now;
    now = *due;
    EXPECT_EQ(lookup.begin(now).target, "/apis/networking.istio.io");
    EXPECT_FALSE(lookup.due());
    if (status != 0) lookup.on_head(status, std::nullopt);
    lookup.on_end(now, error);
    return waited;
  }
  static void expect_about(base::Duration waited, base::Duration expected) {
    EXPECT_GE(waited, expected / 2);
    EXPECT_LE(waited, expected * 3 / 2);
  }

  GroupLookup lookup{"networking.istio.io", {}, 7};
  Instant now{seconds(1000)};
};

TEST_F(GroupLookupTest, AsksOnlyWhileSomethingIsMissing) {
  EXPECT_FALSE(lookup.due());
  lookup.want(true, now);
  ASSERT_TRUE(lookup.due());
  EXPECT_GT(*lookup.due(), now) << "what is missing has just been asked for itself";
  lookup.want(false, now);
  EXPECT_FALSE(lookup.due());
  lookup.want(true, now);
  lookup.begin(now + seconds(20));
  lookup.want(false, now);
  lookup.on_head(200, std::nullopt);
  lookup.on_end(now, "");
  EXPECT_EQ(lookup.take_news(), News::none);
  EXPECT_FALSE(lookup.due());
}

TEST_F(GroupLookupTest, AsksLessAndLessOftenInVain) {
  lookup.want(true, now);
  expect_about(answer(404), seconds(10));
  EXPECT_EQ(lookup.take_news(), News::absent);
  EXPECT_EQ(lookup.take_news(), News::none);
  expect_about(answer(404), seconds(20));
  for (int i = 0; i < 100; ++i) expect_about(answer(404), seconds(30));
}

TEST_F(GroupLookupTest, WhatHasJustComeIsLookedAtSooner) {
  lookup.want(true, now);
  for (int i = 0; i < 10; ++i) answer(404);
  answer(200);
  EXPECT_EQ(lookup.take_news(), News::look_again);
  expect_about(answer(200), seconds(10));
  expect_about(answer(200), seconds(20));
  EXPECT_EQ(lookup.take_news(), News::look_again) << "a group may lack one of its kinds";
}

TEST_F(GroupLookupTest, OtherAnswersSayNothingUnlessItMayNotAsk) {
  lookup.want(true, now);
  answer(500);
  EXPECT_EQ(lookup.take_news(), News::none);
  answer(0, "connection refused");
  EXPECT_EQ(lookup.take_news(), News::none);
  answer(403);
  EXPECT_EQ(lookup.take_news(), News::look_again);
}

}  // namespace
}  // namespace weir::kubernetes
