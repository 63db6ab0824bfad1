#include "interception/unmanaged.h"

#include <arpa/inet.h>

#include <algorithm>

#include "interception/heartbeats.h"
#include "interception/maps.h"

namespace weir::interception {

DiversionRows DiversionRows::of(const Maps& maps, const Heartbeats& heartbeats) {
  DiversionRows rows;
  rows.config = [&maps] { return maps.config(); };
  rows.pod = [&maps](uint64_t netns_cookie) { return maps.pod(netns_cookie); };
  rows.service = [&maps](const base::SocketAddress& vip) { return maps.service(vip); };
  rows.others_beat = [&heartbeats] { return heartbeats.others_beat(base::MonotonicClock::now()); };
  rows.verdict = [&maps](uint64_t netns_cookie, const base::SocketAddress& vip) {
    return maps.verdict(netns_cookie, vip);
  };
  rows.pod_brake = [&maps](uint64_t netns_cookie) { return maps.brake(netns_cookie); };
  rows.service_brake = [&maps](const base::SocketAddress& vip) { return maps.brake(vip); };
  return rows;
}

base::Result<UnmanagedFilter> UnmanagedFilter::make(DiversionRows rows, uint64_t netns_cookie, uint64_t agent_cgroup,
                                                    std::shared_ptr<const config::Snapshot> snapshot) {
  const auto config = rows.config();
  if (!config) return config.error();
  auto pod = rows.pod(netns_cookie);
  if (!pod) return pod.error();
  const auto brake = rows.pod_brake(netns_cookie);
  if (!brake) return brake.error();
  const bool braked = brake.value() || config.value().flags & WEIR_CONFIG_BYPASS;
  if (*pod && (braked || (*pod)->flags & WEIR_POD_OBSERVE)) pod->reset();
  return UnmanagedFilter(std::move(rows), *pod, agent_cgroup, std::move(snapshot), netns_cookie);
}

std::optional<UnmanagedFilter::Target> UnmanagedFilter::target_of(const TcpSocket& socket) {
  if (!pod_) return std::nullopt;
  const base::SocketAddress& vip = socket.id.remote;
  const auto [service, port] = snapshot_->at(vip);
  if (!port || exempt(socket) || !diverts(vip)) return std::nullopt;
  if (port->mode != config::Mode::l7 && socket.id.local.port < WEIR_PRIVILEGED_PORTS) return std::nullopt;
  if ((*service)->by_endpoint && !tells_agents_apart()) return std::nullopt;
  return Target{*service, port};
}

bool UnmanagedFilter::exempt(const TcpSocket& socket) const {
  const auto& excluded = pod_->excluded_ports_be;
  const base::IpAddress& ip = socket.id.remote.ip;
  return socket.device != 0 || socket.mptcp || (agent_cgroup_ != 0 && socket.cgroup == agent_cgroup_) ||
         std::find(std::begin(excluded), std::end(excluded), htons(socket.id.remote.port)) != std::end(excluded) ||
         (!ip.is_v4() && !(pod_->flags & WEIR_POD_IPV6));
}

bool UnmanagedFilter::diverts(const base::SocketAddress& vip) {
  const auto [known, is_new] = diverts_.emplace(vip, false);
  if (is_new) known->second = reads_as_diverted(vip);
  return known->second;
}

bool UnmanagedFilter::reads_as_diverted(const base::SocketAddress& vip) const {
  auto row = rows_.service(vip);
  if (!row || !*row || (*row)->mode == WEIR_MODE_NONE) return false;
  auto brake = rows_.service_brake(vip);
  if (!brake || *brake) return false;
  if (!((*row)->flags & WEIR_SERVICE_LEARNS) || (*row)->mode != WEIR_MODE_DETECT) return true;
  auto verdict = rows_.verdict(netns_cookie_, vip);
  return verdict && !*verdict;
}

}  // namespace weir::interception
