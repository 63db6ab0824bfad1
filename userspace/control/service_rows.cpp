#include "control/service_rows.h"

#include <vector>

#include "base/log.h"

namespace weir::control {
namespace {

uint32_t wanted_mode(const config::Snapshot& snapshot, const base::SocketAddress& vip) {
  const auto* service = snapshot.service_at(vip);
  const config::ServicePort* port = service ? (*service)->find_port(vip.port) : nullptr;
  return port ? static_cast<uint32_t>(port->diverted_mode()) : uint32_t{WEIR_MODE_NONE};
}

// Calls f(address) for all addresses of the Services that are other ones than in `previous`.
template <class F>
void for_each_changed(const config::Snapshot& snapshot, const config::Snapshot& previous, F&& f) {
  for (size_t i = 0; i < snapshot.services.size(); ++i) {
    const config::Service& service = *snapshot.services[i];
    if (&service == previous.services[i].get()) continue;
    for (const base::IpAddress& ip : service.vips)
      for (const config::ServicePort& port : service.ports) f(base::SocketAddress{ip, port.port});
  }
}

bool same_addresses(const config::Snapshot& snapshot, const config::Snapshot* previous) {
  return previous && snapshot.directory == previous->directory;
}

}  // namespace

base::Result<void> ServiceRows::adopt() {
  auto rows = maps_.services();
  if (!rows) return rows.error();
  for (const auto& [vip, row] : *rows) rows_[vip] = row;
  return {};
}

void ServiceRows::remove_unwanted(const config::Snapshot& snapshot, const config::Snapshot* previous) {
  std::vector<base::SocketAddress> unwanted;
  const auto look_at = [&](const base::SocketAddress& vip) {
    if (rows_.contains(vip) && wanted_mode(snapshot, vip) == WEIR_MODE_NONE) unwanted.push_back(vip);
  };
  if (same_addresses(snapshot, previous))
    for_each_changed(snapshot, *previous, look_at);
  else
    for (const auto& [vip, row] : rows_) look_at(vip);
  for (const base::SocketAddress& vip : unwanted) remove(vip);
}

void ServiceRows::remove(const base::SocketAddress& vip) {
  if (auto removed = maps_.remove_service(vip); !removed)
    base::log::error("service {} stays in the BPF map: {}", vip.to_string(), removed.error().message);
  rows_.erase(vip);
}

void ServiceRows::add_wanted(const config::Snapshot& snapshot, const config::Snapshot* previous) {
  if (same_addresses(snapshot, previous)) {
    for_each_changed(snapshot, *previous, [&](const base::SocketAddress& vip) { add(snapshot, vip); });
  } else {
    for (const auto& [vip, place] : snapshot.directory->by_vip) add(snapshot, vip);
  }
}

void ServiceRows::add(const config::Snapshot& snapshot, const base::SocketAddress& vip) {
  const uint32_t mode = wanted_mode(snapshot, vip);
  if (mode == WEIR_MODE_NONE) return;
  const auto known = rows_.find(vip);
  if (known != rows_.end() && known->second.mode == mode && known->second.generation == generation_) return;
  // The brake (flags) belongs to the operator, who may have changed it since, and outlives agents.
  auto present = maps_.service(vip);
  if (!present) {
    base::log::error("service {} can't be read from the BPF map: {}", vip.to_string(), present.error().message);
    return;
  }
  const weir_service row{mode, *present ? (*present)->flags : 0, generation_};
  if (auto set = maps_.set_service(vip, row); !set) {
    base::log::error("service {} can't be diverted: {}", vip.to_string(), set.error().message);
    return;
  }
  rows_[vip] = row;
}

}  // namespace weir::control
