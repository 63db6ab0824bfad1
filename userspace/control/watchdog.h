// Watchdog: when each thread that must not stand still was last seen going on. What the liveness probe asks.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"

namespace weir::control {

class Watchdog {
 public:
  static constexpr size_t kControl = 0;
  static constexpr size_t of_worker(size_t index) { return index + 1; }
  // All were seen at `now`.
  Watchdog(size_t workers, base::Instant now);

  // Any thread.
  void seen(size_t thread, base::Instant now);
  // Names the one that has stood still for longest, if that is more than ten seconds: "worker-0 has stood still for
  // 12 s". A connection waits for nobody so long (BPF has taken a worker for hung after one second), but a machine that
  // is short of CPU for a moment is no reason to start the agent anew. Any thread.
  std::optional<std::string> stuck(base::Instant now) const;

 private:
  std::vector<std::atomic<base::Instant>> seen_;
};

}  // namespace weir::control
