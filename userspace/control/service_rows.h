// ServiceRows keeps the BPF map `services` in step with the Snapshot. Rows that are no
// longer wanted go before the workers hear of the new Snapshot, new ones come after:
// what BPF diverts is always known to the worker that accepts it.
#pragma once

#include <unordered_map>

#include "config/snapshot.h"
#include "interception/maps.h"

namespace weir::control {

class ServiceRows {
 public:
  // `generation`: of this agent, written into the rows.
  ServiceRows(interception::Maps& maps, uint64_t generation) : maps_(maps), generation_(generation) {}

  // Takes over the rows that an earlier agent left.
  base::Result<void> adopt();
  // `previous`: which the rows are in step with, as far as the map took them; null if there is none.
  void remove_unwanted(const config::Snapshot& snapshot, const config::Snapshot* previous);
  void add_wanted(const config::Snapshot& snapshot, const config::Snapshot* previous);

 private:
  void remove(const base::SocketAddress& vip);
  void add(const config::Snapshot& snapshot, const base::SocketAddress& vip);

  interception::Maps& maps_;
  uint64_t generation_;
  std::unordered_map<base::SocketAddress, weir_service> rows_;  // as they stand in the map
};

}  // namespace weir::control
