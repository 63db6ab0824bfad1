// A token bucket that is one instant: when all its tokens will be back (the generic cell
// rate algorithm). Time only moves by the `now` that is passed in, so that a charge is an
// addition and two comparisons, and refilling is nothing at all.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace weir::http2 {

// `burst` tokens, of which one comes back every `interval`; burst * interval stays below a year.
struct TokenRate {
  uint32_t burst;
  base::Duration interval;
};

class TokenBucket {
 public:
  enum class Level : uint8_t {
    fine,
    low,        // three quarters of the tokens are gone
    exhausted,  // there was none to take
  };

  Level take(const TokenRate& rate, base::Instant now) {
    const base::Instant full_at = std::max(full_at_, now) + rate.interval;
    const base::Duration missing = full_at - now;
    const base::Duration all = rate.burst * rate.interval;
    if (missing > all) return Level::exhausted;
    full_at_ = full_at;
    return 4 * missing >= 3 * all ? Level::low : Level::fine;
  }
  // Useful work pays for `tokens` that were taken before; a full bucket stays as it is.
  void earn(uint32_t tokens, const TokenRate& rate, base::Instant now) {
    if (full_at_ > now) full_at_ = std::max(full_at_ - tokens * rate.interval, now);
  }

 private:
  base::Instant full_at_ = base::Instant::min();
};

}  // namespace weir::http2
