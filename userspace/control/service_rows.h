// ServiceRows keeps the BPF map `services` in step with the Snapshot. Rows that are no
// longer wanted go before the workers hear of the new Snapshot, new ones come after:
// what BPF diverts is always known to the worker that accepts it. What was learned about an address ends when its row
// goes, learns no more or is another Service's.
#pragma once

#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "config/snapshot.h"
#include "interception/maps.h"

namespace weir::control {

// What is done to the maps: operations of Maps and VerdictRows.
struct ServiceMap {
  std::function<base::Result<std::vector<std::pair<base::SocketAddress, weir_service>>>()> list;
  std::function<base::Result<void>(const base::SocketAddress& vip, const weir_service& row)> set;
  std::function<base::Result<void>(const base::SocketAddress& vip)> remove;
  std::function<void(const std::unordered_set<base::SocketAddress>& vips)> end_verdicts;

  static ServiceMap of(interception::Maps& maps);  // `maps` outlives it; without end_verdicts
};

class ServiceRows {
 public:
  // `generation`: of this agent, written into the rows. `learning`: whether ports that may learn do.
  ServiceRows(ServiceMap map, uint64_t generation, bool learning)
      : map_(std::move(map)), generation_(generation), learning_(learning) {}

  // Takes over the rows that an earlier agent left.
  base::Result<void> adopt();
  // `previous`: which the rows are in step with, as far as the map took them; null if there is none.
  void remove_unwanted(const config::Snapshot& snapshot, const config::Snapshot* previous);
  void add_wanted(const config::Snapshot& snapshot, const config::Snapshot* previous);

 private:
  struct Wanted {
    uint32_t mode = WEIR_MODE_NONE;
    uint32_t flags = 0;  // of the agent's
  };
  Wanted wanted(const config::Snapshot& snapshot, const base::SocketAddress& vip) const;
  bool learned(const base::SocketAddress& vip) const;  // there may be verdicts about it
  void remove(const base::SocketAddress& vip);
  void add(const config::Snapshot& snapshot, const base::SocketAddress& vip);

  ServiceMap map_;
  uint64_t generation_;
  bool learning_;
  std::unordered_map<base::SocketAddress, weir_service> rows_;  // as they stand in the map
  std::unordered_set<base::SocketAddress> unlearned_;           // what was learned about them is to end
};

}  // namespace weir::control
