#include "control/watchdog.h"

#include <gtest/gtest.h>

namespace weir::control {
namespace {

using std::chrono::seconds;

constexpr base::Instant kStart{seconds(1000)};

TEST(Watchdog, NamesWhoHasStoodStillForLongest) {
  Watchdog watchdog(2, kStart);
  EXPECT_EQ(watchdog.stuck(kStart + seconds(10)), std::nullopt);
  watchdog.seen(Watchdog::kControl, kStart + seconds(9));
  watchdog.seen(Watchdog::of_worker(0), kStart + seconds(9));
  EXPECT_EQ(watchdog.stuck(kStart + seconds(12)), "worker-1 has stood still for 12 s");
  watchdog.seen(Watchdog::of_worker(1), kStart + seconds(12));
  EXPECT_EQ(watchdog.stuck(kStart + seconds(12)), std::nullopt) << "who goes on is well again";
  watchdog.seen(Watchdog::of_worker(0), kStart + seconds(12));
  EXPECT_EQ(watchdog.stuck(kStart + seconds(20)), "the control thread has stood still for 11 s");
}

}  // namespace
}  // namespace weir::control
