#include "interception/heartbeats.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>

#include "interception/maps.h"

namespace weir::interception {
namespace {

constexpr uint64_t kAbandonedNs = std::chrono::nanoseconds(std::chrono::seconds(10)).count();
constexpr size_t kMappedBytes = WEIR_MAX_HEARTBEATS * sizeof(weir_heartbeat);

uint64_t nanoseconds(base::Instant when) { return static_cast<uint64_t>(when.time_since_epoch().count()); }

}  // namespace

void Heartbeat::beat(base::Instant now) const {
  if (std::atomic_ref(row_->generation).load(std::memory_order_relaxed) != generation_) return;
  std::atomic_ref(row_->beat_ns).store(nanoseconds(now), std::memory_order_relaxed);
}

base::Result<Heartbeats> Heartbeats::open(const Maps& maps, uint64_t generation) {
  void* start = mmap(nullptr, kMappedBytes, PROT_READ | PROT_WRITE, MAP_SHARED, maps.heartbeats_fd(), 0);
  if (start == MAP_FAILED) return base::system_error("map the BPF map heartbeats into memory", errno);
  Heartbeats result({static_cast<weir_heartbeat*>(start), WEIR_MAX_HEARTBEATS}, generation);
  result.mapping_ = std::shared_ptr<void>(start, [](void* mapped) { munmap(mapped, kMappedBytes); });
  return result;
}

base::Result<Heartbeat> Heartbeats::claim(base::Instant now) {
  const uint64_t now_ns = nanoseconds(now);
  for (;;) {
    weir_heartbeat* oldest = nullptr;
    uint64_t owner = 0, last_beat = now_ns;
    for (weir_heartbeat& row : rows_) {
      // The owner first: one that claims right now beats before its name appears.
      const uint64_t generation = std::atomic_ref(row.generation).load(std::memory_order_acquire);
      const uint64_t beat_ns = std::atomic_ref(row.beat_ns).load(std::memory_order_relaxed);
      if (generation == generation_ || beat_ns >= last_beat) continue;
      if (generation != 0 && beat_ns + kAbandonedNs > now_ns) continue;
      oldest = &row;
      owner = generation;
      last_beat = beat_ns;
    }
    if (!oldest)
      return base::Error{"no free slot in the BPF map heartbeats: agents were started too often within ten seconds",
                         ENOSPC};
    std::atomic_ref(oldest->beat_ns).store(now_ns, std::memory_order_relaxed);
    if (std::atomic_ref(oldest->generation).compare_exchange_strong(owner, generation_))
      return Heartbeat(*oldest, static_cast<uint16_t>(oldest - rows_.data()), generation_);
  }
}

bool Heartbeats::others_beat(base::Instant now) const {
  return std::any_of(rows_.begin(), rows_.end(), [&](weir_heartbeat& row) {
    const uint64_t generation = std::atomic_ref(row.generation).load(std::memory_order_acquire);
    return generation != 0 && generation != generation_ &&
           std::atomic_ref(row.beat_ns).load(std::memory_order_relaxed) + kAbandonedNs > nanoseconds(now);
  });
}

}  // namespace weir::interception
