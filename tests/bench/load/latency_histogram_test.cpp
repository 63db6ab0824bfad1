#include "latency_histogram.h"

#include <gtest/gtest.h>

#include <vector>

#include "calls.h"

namespace bench {
namespace {

TEST(LatencyHistogram, PercentilesAreWithinASixtyFourthOfTheValue) {
  for (const uint64_t scale : {1ull, 37ull, 1'000ull, 1'000'000ull, 1'000'000'000ull}) {
    LatencyHistogram histogram;
    for (uint64_t i = 1; i <= 1000; i++) histogram.record(i * scale);
    for (const double part : {0.0, 0.5, 0.9, 0.99}) {
      const double exact = (part * 1000 + 1) * static_cast<double>(scale);
      const auto found = static_cast<double>(histogram.percentile(part));
      EXPECT_GE(found, exact) << scale << " " << part;
      EXPECT_LE(found, exact * (1 + 1.0 / 64)) << scale << " " << part;
    }
    EXPECT_EQ(histogram.percentile(1.0), 1000 * scale);
    EXPECT_EQ(histogram.max(), 1000 * scale);
    EXPECT_DOUBLE_EQ(histogram.mean(), 500.5 * static_cast<double>(scale));
  }
}

TEST(LatencyHistogram, NothingAndTheLongest) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.percentile(0.5), 0u);
  histogram.record(~uint64_t{0} >> 1);  // beyond the last bucket
  EXPECT_EQ(histogram.percentile(0.5), ~uint64_t{0} >> 1);
}

TEST(Calls, PathsSayWhatIsWanted) {
  struct Case {
    const char* path;
    bool known;
    Kind kind;
    uint32_t count, size;
  };
  for (const Case& one : std::vector<Case>{{"/bench.Load/Reply1x0", true, Kind::reply, 1, 0},
                                           {"/bench.Load/Reply100x1024", true, Kind::reply, 100, 1024},
                                           {"/bench.Load/Echo", true, Kind::echo, 1, 0},
                                           {"/bench.Load/Hold", true, Kind::hold, 1, 0},
                                           {"/bench.Load/Reply", false, Kind::reply, 1, 0},
                                           {"/", false, Kind::reply, 1, 0}}) {
    Wanted wanted;
    EXPECT_EQ(parse_path(one.path, wanted), one.known) << one.path;
    if (!one.known) continue;
    EXPECT_EQ(wanted.kind, one.kind) << one.path;
    EXPECT_EQ(wanted.count, one.count) << one.path;
    EXPECT_EQ(wanted.size, one.size) << one.path;
  }
}

}  // namespace
}  // namespace bench
