#include "control/service_rows.h"

#include "base/log.h"

namespace weir::control {
namespace {

uint32_t wanted_mode(const config::Snapshot& snapshot, const base::SocketAddress& vip) {
  const auto found = snapshot.by_vip.find(vip);
  if (found == snapshot.by_vip.end()) return WEIR_MODE_NONE;
  const config::ServicePort* port = found->second->find_port(vip.port);
  return port ? static_cast<uint32_t>(port->diverted_mode()) : uint32_t{WEIR_MODE_NONE};
}

}  // namespace

base::Result<void> ServiceRows::adopt() {
  auto rows = maps_.services();
  if (!rows) return rows.error();
  for (const auto& [vip, row] : *rows) rows_[vip] = row;
  return {};
}

void ServiceRows::remove_unwanted(const config::Snapshot& snapshot) {
  for (auto it = rows_.begin(); it != rows_.end();) {
    if (wanted_mode(snapshot, it->first) != WEIR_MODE_NONE) {
      ++it;
      continue;
    }
    if (auto removed = maps_.remove_service(it->first); !removed)
      base::log::error("service {} stays in the BPF map: {}", it->first.to_string(), removed.error().message);
    it = rows_.erase(it);
  }
}

void ServiceRows::add_wanted(const config::Snapshot& snapshot) {
  for (const auto& [vip, service] : snapshot.by_vip) {
    const uint32_t mode = wanted_mode(snapshot, vip);
    if (mode == WEIR_MODE_NONE) continue;
    const auto known = rows_.find(vip);
    if (known != rows_.end() && known->second.mode == mode && known->second.generation == generation_) continue;
    // The brake (flags) belongs to the operator, who may have changed it since, and outlives agents.
    auto present = maps_.service(vip);
    if (!present) {
      base::log::error("service {} can't be read from the BPF map: {}", vip.to_string(), present.error().message);
      continue;
    }
    const weir_service row{mode, *present ? (*present)->flags : 0, generation_};
    if (auto set = maps_.set_service(vip, row); !set) {
      base::log::error("service {} can't be diverted: {}", vip.to_string(), set.error().message);
      continue;
    }
    rows_[vip] = row;
  }
}

}  // namespace weir::control
