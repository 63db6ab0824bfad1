// VerdictRows keeps the BPF map `verdicts`: what workers learn goes in, what does not hold any more is ended, and rows
// of pods that are gone are removed. A row stays when its time is over, as the record that connections of its pod may
// have passed by the agent on purpose (interception/unmanaged.h), also for the agents that follow.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <unordered_set>
#include <vector>

#include "base/clock.h"
#include "interception/maps.h"

namespace weir::control {

// What is done to the map: operations of Maps, thread-safe.
struct VerdictMap {
  std::function<base::Result<void>(uint64_t netns_cookie, const base::SocketAddress& vip, const weir_verdict& row)> set;
  std::function<base::Result<void>(uint64_t netns_cookie, const base::SocketAddress& vip)> remove;
  std::function<base::Result<std::vector<interception::Maps::Verdict>>()> list;

  static VerdictMap of(const interception::Maps& maps);  // `maps` outlives it
};

class VerdictRows {
 public:
  // Rows whose time is over are kept while there are no more than this: half of what the map holds.
  static constexpr size_t kMostKept = 32'768;

  explicit VerdictRows(VerdictMap map) : map_(std::move(map)) {}

  // Both are called by workers.
  void learn(uint64_t netns_cookie, const base::SocketAddress& vip, base::Instant expires, uint32_t sample_every);
  void forget(uint64_t netns_cookie, const base::SocketAddress& vip);

  // No verdict about these addresses holds any more.
  void end(const std::unordered_set<base::SocketAddress>& vips);
  // Removes the rows of pods whose network namespace is none of these.
  void sweep(const std::unordered_set<uint64_t>& netns_cookies, base::Instant now);

  uint64_t failures() const { return failures_; }  // of writing and reading rows, since the start

 private:
  void failed(const base::Error& error);

  VerdictMap map_;
  std::atomic<uint64_t> failures_{0};
  std::atomic<bool> told_{false};  // since the last sweep
};

}  // namespace weir::control
