#include "interception/pod_rows.h"

#include <arpa/inet.h>

#include <algorithm>

#include "interception/maps.h"

namespace weir::interception {

PodRows PodRows::of(Maps& maps) {
  PodRows rows;
  rows.get = [&maps](uint64_t cookie) { return maps.pod(cookie); };
  rows.list = [&maps] { return maps.pods(); };
  rows.set = [&maps](uint64_t cookie, const weir_pod& row) { return maps.set_pod(cookie, row); };
  rows.remove = [&maps](uint64_t cookie) { return maps.remove_pod(cookie); };
  rows.withdraw = [&maps](uint64_t cookie) { return maps.withdraw_pod(cookie); };
  rows.mark = [&maps](int listener, uint64_t generation) {
    return maps.mark(listener, WEIR_MARK_LISTENER, generation);
  };
  return rows;
}

weir_pod make_row(const config::Pod& pod, PodWorker worker, uint16_t port, bool v6) {
  weir_pod row{};
  row.worker = static_cast<uint16_t>(worker.index);
  row.heartbeat = worker.heartbeat;
  row.listener_port_be = htons(port);
  auto v4_ip = std::find_if(pod.ips.begin(), pod.ips.end(), [](const auto& ip) { return ip.is_v4(); });
  auto v6_ip = std::find_if(pod.ips.begin(), pod.ips.end(), [](const auto& ip) { return !ip.is_v4(); });
  if (v4_ip != pod.ips.end()) std::copy(v4_ip->bytes.begin() + 12, v4_ip->bytes.end(), row.pod_ip4);
  if (v6_ip != pod.ips.end()) std::copy(v6_ip->bytes.begin(), v6_ip->bytes.end(), row.pod_ip6);
  size_t excluded = 0;
  for (uint16_t excluded_port : pod.excluded_ports) {
    // Zero ends the list in the row; it is no port that anyone connects to.
    if (excluded_port == 0 || excluded == WEIR_MAX_EXCLUDED_PORTS) continue;
    row.excluded_ports_be[excluded++] = htons(excluded_port);
  }
  if (pod.dataplane == config::Dataplane::observe) row.flags |= WEIR_POD_OBSERVE;
  if (pod.fail_closed) row.flags |= WEIR_POD_FAIL_CLOSED;
  if (pod.redirect) row.flags |= WEIR_POD_REDIRECT;
  if (v6) row.flags |= WEIR_POD_IPV6;
  return row;
}

base::Result<void> OwnedRows::take(uint64_t netns_cookie, weir_pod row) {
  row.generation = generation_;
  return rows_.set(netns_cookie, row);
}

base::Result<void> OwnedRows::update(uint64_t netns_cookie, const weir_pod& row) {
  auto before = rows_.get(netns_cookie);
  if (!before) return before.error();
  if (before.value() && before.value()->generation != generation_) return {};
  return take(netns_cookie, row);
}

base::Result<bool> OwnedRows::exists(uint64_t netns_cookie) const {
  auto row = rows_.get(netns_cookie);
  if (!row) return row.error();
  return row.value().has_value();
}

base::Result<bool> OwnedRows::owns(uint64_t netns_cookie) const {
  auto row = rows_.get(netns_cookie);
  if (!row) return row.error();
  return row.value() && row.value()->generation == generation_;
}

base::Result<void> OwnedRows::remove(uint64_t netns_cookie) {
  auto owned = owns(netns_cookie);
  if (!owned) return owned.error();
  return *owned ? rows_.remove(netns_cookie) : base::Result<void>();
}

base::Result<void> OwnedRows::withdraw(uint64_t netns_cookie) {
  auto owned = owns(netns_cookie);
  if (!owned) return owned.error();
  return *owned ? rows_.withdraw(netns_cookie) : base::Result<void>();
}

base::Result<void> OwnedRows::sweep() {
  auto rows = rows_.list();
  if (!rows) return rows.error();
  for (const auto& [cookie, row] : rows.value()) {
    if (row.generation == generation_) continue;
    if (auto removed = rows_.remove(cookie); !removed) return removed;
  }
  return {};
}

}  // namespace weir::interception
