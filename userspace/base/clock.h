// Time. The request path uses Instant: nanoseconds of CLOCK_MONOTONIC, the
// clock that bpf_ktime_get_ns() reads too. A loop turn reads it once and passes
// it down; pure modules never ask for the time.
#pragma once

#include <time.h>

#include <chrono>
#include <cstdint>

namespace weir::base {

using Duration = std::chrono::nanoseconds;

struct MonotonicClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicClock>;
  static constexpr bool is_steady = true;

  static time_point now() {
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return time_point(std::chrono::seconds(ts.tv_sec) + Duration(ts.tv_nsec));
  }
};

using Instant = MonotonicClock::time_point;

// The CPU time that the calling thread has used.
inline Duration thread_cpu_time() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return std::chrono::seconds(ts.tv_sec) + Duration(ts.tv_nsec);
}

}  // namespace weir::base
