// The workers' signs of life, which the connect hooks ask for: an array of BPF mapped into
// this process, so that a beat is one store. Agents share the array while one takes over from the
// other; a slot belongs to the agent whose generation it carries, and what another agent left is claimed
// only after it has been silent for ten seconds, the longest silent first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/clock.h"
#include "base/result.h"
#include "weir/bpf_abi.h"

namespace weir::interception {

class Maps;

// One worker's slot. Valid as long as the Heartbeats it comes from.
class Heartbeat {
 public:
  Heartbeat(weir_heartbeat& row, uint16_t slot, uint64_t generation)
      : row_(&row), slot_(slot), generation_(generation) {}
  uint16_t slot() const { return slot_; }
  // Does nothing if another agent has claimed the slot, which takes that this one was stopped for long: the other
  // worker must not look alive because of us. Any thread.
  void beat(base::Instant now) const;

 private:
  weir_heartbeat* row_;
  uint16_t slot_;
  uint64_t generation_;
};

class Heartbeats {
 public:
  // Maps the array `heartbeats` of `maps`, which may go afterwards.
  static base::Result<Heartbeats> open(const Maps& maps, uint64_t generation);
  // For rows that stand elsewhere and outlive the object.
  Heartbeats(std::span<weir_heartbeat> rows, uint64_t generation) : rows_(rows), generation_(generation) {}

  // Claims a slot, whose first beat is `now`. Fails when all were used within the last ten seconds.
  base::Result<Heartbeat> claim(base::Instant now);
  // Whether a worker of another agent has beaten within the last ten seconds: one that drains does. Any thread.
  bool others_beat(base::Instant now) const;

 private:
  std::span<weir_heartbeat> rows_;
  uint64_t generation_;
  std::shared_ptr<void> mapping_;
};

}  // namespace weir::interception
