#include "control/watchdog.h"

#include <algorithm>

namespace weir::control {
namespace {
constexpr auto kLongest = std::chrono::seconds(10);
}  // namespace

Watchdog::Watchdog(size_t workers, base::Instant now) : seen_(workers + 1) {
  for (auto& seen : seen_) seen.store(now, std::memory_order_relaxed);
}

void Watchdog::seen(size_t thread, base::Instant now) { seen_[thread].store(now, std::memory_order_relaxed); }

std::optional<std::string> Watchdog::stuck(base::Instant now) const {
  const auto oldest = std::min_element(seen_.begin(), seen_.end(), [](const auto& a, const auto& b) {
    return a.load(std::memory_order_relaxed) < b.load(std::memory_order_relaxed);
  });
  const base::Duration still = now - oldest->load(std::memory_order_relaxed);
  if (still <= kLongest) return std::nullopt;
  const auto index = static_cast<size_t>(oldest - seen_.begin());
  return (index == kControl ? "the control thread" : "worker-" + std::to_string(index - 1)) + " has stood still for " +
         std::to_string(std::chrono::duration_cast<std::chrono::seconds>(still).count()) + " s";
}

}  // namespace weir::control
