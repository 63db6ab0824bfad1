#include "http2/token_bucket.h"

#include <gtest/gtest.h>

namespace weir::http2::testing {
namespace {

using std::chrono::milliseconds;
using Level = TokenBucket::Level;

constexpr TokenRate kRate{8, milliseconds(10)};
constexpr base::Instant kStart{std::chrono::hours(5)};

// Takes `n` tokens at `now`; the level after the last.
Level take(TokenBucket& bucket, int n, base::Instant now) {
  Level level = Level::fine;
  for (int i = 0; i < n; ++i) level = bucket.take(kRate, now);
  return level;
}

TEST(TokenBucketTest, WarnsAtThreeQuartersAndEndsAfterTheLast) {
  TokenBucket bucket;
  EXPECT_EQ(take(bucket, 5, kStart), Level::fine);
  EXPECT_EQ(take(bucket, 1, kStart), Level::low);
  EXPECT_EQ(take(bucket, 2, kStart), Level::low);
  EXPECT_EQ(take(bucket, 1, kStart), Level::exhausted);
}

TEST(TokenBucketTest, TimeBringsOneBackEachInterval) {
  TokenBucket bucket;
  take(bucket, 8, kStart);
  EXPECT_EQ(take(bucket, 1, kStart + milliseconds(10)), Level::low);
  EXPECT_EQ(take(bucket, 1, kStart + milliseconds(19)), Level::exhausted);
  for (int i = 0; i < 1000; ++i) EXPECT_NE(take(bucket, 1, kStart + milliseconds(20 + 10 * i)), Level::exhausted);
}

TEST(TokenBucketTest, NeverHoldsMoreThanItsBurst) {
  TokenBucket bucket;
  take(bucket, 3, kStart);
  const base::Instant later = kStart + std::chrono::hours(1000);
  bucket.earn(1000000, kRate, later);
  EXPECT_EQ(take(bucket, 8, later), Level::low);
  EXPECT_EQ(take(bucket, 1, later), Level::exhausted);
}

TEST(TokenBucketTest, WorkPaysForWhatWasTaken) {
  TokenBucket bucket;
  take(bucket, 8, kStart);
  bucket.earn(3, kRate, kStart);
  EXPECT_EQ(take(bucket, 3, kStart), Level::low);
  EXPECT_EQ(take(bucket, 1, kStart), Level::exhausted);
  bucket.earn(100, kRate, kStart);
  EXPECT_EQ(take(bucket, 5, kStart), Level::fine);
}

TEST(TokenBucketTest, IsAFewBytes) { EXPECT_LE(sizeof(TokenBucket), 8u); }

}  // namespace
}  // namespace weir::http2::testing
