#include "control/service_rows.h"

#include "base/log.h"

namespace weir::control {
namespace {

// Calls f(address) for all addresses of the Services that are other ones than in `previous`, and for those of
// endpoints that are a Service's in either if some are another one's.
template <class F>
void for_each_changed(const config::Snapshot& snapshot, const config::Snapshot& previous, F&& f) {
  for (size_t i = 0; i < snapshot.services.size(); ++i) {
    const config::Service& service = *snapshot.services[i];
    if (&service == previous.services[i].get()) continue;
    service.for_each_vip([&](const base::SocketAddress& address, uint32_t) { f(address); });
    service.for_each_endpoint_address([&](const base::SocketAddress& address, uint32_t) { f(address); });
  }
  if (snapshot.by_endpoint == previous.by_endpoint) return;
  for (const auto& [address, place] : *previous.by_endpoint) f(address);
  for (const auto& [address, place] : *snapshot.by_endpoint) f(address);
}

bool same_vips(const config::Snapshot& snapshot, const config::Snapshot* previous) {
  return previous && snapshot.directory == previous->directory;
}

// Whether the address is another Service's than before.
bool changed_hands(const config::Snapshot& snapshot, const config::Snapshot& previous, const base::SocketAddress& vip) {
  const auto *now = snapshot.at(vip).service, *before = previous.at(vip).service;
  return now && before && (*now)->fqdn != (*before)->fqdn;
}

}  // namespace

ServiceMap ServiceMap::of(interception::Maps& maps) {
  ServiceMap map;
  map.list = [&maps] { return maps.services(); };
  map.set = [&maps](const base::SocketAddress& vip, const weir_service& row) { return maps.set_service(vip, row); };
  map.remove = [&maps](const base::SocketAddress& vip) { return maps.remove_service(vip); };
  return map;
}

ServiceRows::Wanted ServiceRows::wanted(const config::Snapshot& snapshot, const base::SocketAddress& vip) const {
  const config::ServicePort* port = snapshot.at(vip).port;
  if (!port) return {};
  const bool learns = learning_ && port->learns();
  return {static_cast<uint32_t>(port->diverted_mode()), learns ? uint32_t{WEIR_SERVICE_LEARNS} : 0};
}

base::Result<void> ServiceRows::adopt() {
  auto rows = map_.list();
  if (!rows) return rows.error();
  for (const auto& [vip, row] : *rows) rows_[vip] = row;
  return {};
}

void ServiceRows::remove_unwanted(const config::Snapshot& snapshot, const config::Snapshot* previous) {
  std::vector<base::SocketAddress> unwanted;
  const auto look_at = [&](const base::SocketAddress& vip) {
    if (rows_.contains(vip) && wanted(snapshot, vip).mode == WEIR_MODE_NONE) unwanted.push_back(vip);
  };
  if (same_vips(snapshot, previous))
    for_each_changed(snapshot, *previous, look_at);
  else
    for (const auto& [vip, row] : rows_) look_at(vip);
  for (const base::SocketAddress& vip : unwanted)
    if (rows_.contains(vip)) remove(vip);
}

void ServiceRows::remove(const base::SocketAddress& vip) {
  if (auto removed = map_.remove(vip); !removed)
    base::log::error("service {} stays in the BPF map: {}", vip.to_string(), removed.error().message);
  if (learned(vip)) unlearned_.insert(vip);
  rows_.erase(vip);
}

bool ServiceRows::learned(const base::SocketAddress& vip) const {
  const auto row = rows_.find(vip);
  return row != rows_.end() && row->second.flags & WEIR_SERVICE_LEARNS;
}

void ServiceRows::add_wanted(const config::Snapshot& snapshot, const config::Snapshot* previous) {
  const auto take = [&](const base::SocketAddress& vip) {
    if (learned(vip) && previous && changed_hands(snapshot, *previous, vip)) unlearned_.insert(vip);
    add(snapshot, vip);
  };
  if (same_vips(snapshot, previous)) {
    for_each_changed(snapshot, *previous, take);
  } else {
    for (const auto& [vip, place] : snapshot.directory->by_address) take(vip);
    for (const auto& [address, place] : *snapshot.by_endpoint) take(address);
  }
  // Now that workers have the Snapshot, none learns the same again.
  if (!unlearned_.empty()) map_.end_verdicts(std::exchange(unlearned_, {}));
}

void ServiceRows::add(const config::Snapshot& snapshot, const base::SocketAddress& vip) {
  const auto [mode, flags] = wanted(snapshot, vip);
  if (mode == WEIR_MODE_NONE) return;
  const auto known = rows_.find(vip);
  if (known != rows_.end() && known->second.mode == mode && known->second.flags == flags &&
      known->second.generation == generation_)
    return;
  if (learned(vip) && !(flags & WEIR_SERVICE_LEARNS)) unlearned_.insert(vip);
  const weir_service row{mode, flags, generation_};
  if (auto set = map_.set(vip, row); !set) {
    base::log::error("service {} can't be diverted: {}", vip.to_string(), set.error().message);
    return;
  }
  rows_[vip] = row;
}

}  // namespace weir::control
