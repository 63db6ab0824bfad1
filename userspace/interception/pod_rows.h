// This agent's rows in the BPF map `pods`. A row belongs to the agent whose
// generation it carries: take() takes it over, and apart from that (and sweep())
// rows of other agents are left alone, because they took the pod over from us. An
// operator's brake is no part of the row, so nobody else writes here.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/snapshot.h"
#include "weir/bpf_abi.h"

namespace weir::interception {

class Maps;

// What enrolment does to maps: operations of Maps.
struct PodRows {
  std::function<base::Result<std::optional<weir_pod>>(uint64_t netns_cookie)> get;
  std::function<base::Result<std::vector<std::pair<uint64_t, weir_pod>>>()> list;
  std::function<base::Result<void>(uint64_t netns_cookie, const weir_pod& row)> set;
  std::function<base::Result<void>(uint64_t netns_cookie)> remove;    // and the operator's brake of the pod
  std::function<base::Result<void>(uint64_t netns_cookie)> withdraw;  // without it
  std::function<base::Result<void>(int listener, uint64_t generation)> mark;

  static PodRows of(Maps& maps);  // `maps` outlives it
};

// The worker that a pod was given to.
struct PodWorker {
  uint32_t index = 0;
  uint16_t heartbeat = 0;  // its slot in the BPF map `heartbeats`
};

// The row of a pod whose listeners are at `port`; `v6`: on [::1] too.
weir_pod make_row(const config::Pod& pod, PodWorker worker, uint16_t port, bool v6);

class OwnedRows {
 public:
  OwnedRows(PodRows rows, uint64_t generation) : rows_(std::move(rows)), generation_(generation) {}

  base::Result<void> mark(int listener) { return rows_.mark(listener, generation_); }
  base::Result<void> take(uint64_t netns_cookie, weir_pod row);
  base::Result<void> update(uint64_t netns_cookie, const weir_pod& row);
  // Whether any agent's row stands there.
  base::Result<bool> exists(uint64_t netns_cookie) const;
  base::Result<void> remove(uint64_t netns_cookie);
  // The same as this agent ends; the next one finds the operator's brake.
  base::Result<void> withdraw(uint64_t netns_cookie);
  // Removes the rows of other agents.
  base::Result<void> sweep();

 private:
  base::Result<bool> owns(uint64_t netns_cookie) const;

  PodRows rows_;
  uint64_t generation_;
};

}  // namespace weir::interception
