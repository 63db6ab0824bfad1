// Unmanaged connections: those of enrolled pods that go past weir, though a connect() to the same address would be
// diverted now. They are older than the pod's enrolment, or were dialled while there was no agent or a brake was on.
// A diverted connection is none of them: its kernel peer is the listener. The rules are those of bpf/connect.h, asked
// of the same maps. Nor is one to a port of which the pod has ever learned a verdict, be it over by now: it may have
// passed by on purpose (control/verdict_rows.h keeps the row for that).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>

#include "base/result.h"
#include "config/snapshot.h"
#include "interception/socket_diag.h"
#include "weir/bpf_abi.h"

namespace weir::interception {

class Heartbeats;
class Maps;

// What the rules ask of maps: operations of Maps.
struct DiversionRows {
  std::function<base::Result<weir_config>()> config;
  std::function<base::Result<std::optional<weir_pod>>(uint64_t netns_cookie)> pod;
  std::function<base::Result<std::optional<weir_service>>(const base::SocketAddress& vip)> service;
  std::function<base::Result<std::optional<weir_verdict>>(uint64_t netns_cookie, const base::SocketAddress& vip)>
      verdict;
  // The operator's brakes.
  std::function<base::Result<bool>(uint64_t netns_cookie)> pod_brake;
  std::function<base::Result<bool>(const base::SocketAddress& vip)> service_brake;

  std::function<bool()> others_beat;  // of Heartbeats: another agent runs, as one that drains does

  static DiversionRows of(const Maps& maps, const Heartbeats& heartbeats);  // they outlive it
};

// Of one pod, as the rows stand when they are first looked at. Not for long use.
class UnmanagedFilter {
 public:
  // What it dialled; the port belongs to the service.
  struct Target {
    std::shared_ptr<const config::Service> service;
    const config::ServicePort* port = nullptr;
  };

  // Reads the node's and the pod's rows. `agent_cgroup`: sockets made there are the agent's own (0: not known).
  static base::Result<UnmanagedFilter> make(DiversionRows rows, uint64_t netns_cookie, uint64_t agent_cgroup,
                                            std::shared_ptr<const config::Snapshot> snapshot);

  // Whether anything of the pod is diverted now.
  bool has_any() const { return pod_.has_value(); }
  // Where an unmanaged connection goes; nullopt: it is none. A row that can't be read counts as none.
  std::optional<Target> target_of(const TcpSocket& socket);

 private:
  UnmanagedFilter(DiversionRows rows, std::optional<weir_pod> pod, uint64_t agent_cgroup,
                  std::shared_ptr<const config::Snapshot> snapshot, uint64_t netns_cookie)
      : rows_(std::move(rows)),
        pod_(pod),
        agent_cgroup_(agent_cgroup),
        others_beat_(rows_.others_beat()),
        snapshot_(std::move(snapshot)),
        netns_cookie_(netns_cookie) {}
  // Connections to endpoints' own addresses are agents', too: they don't count while it can't be told whose they are.
  bool tells_agents_apart() const { return agent_cgroup_ != 0 && !others_beat_; }
  bool exempt(const TcpSocket& socket) const;
  bool diverts(const base::SocketAddress& vip);
  bool reads_as_diverted(const base::SocketAddress& vip) const;

  DiversionRows rows_;
  std::optional<weir_pod> pod_;  // of a pod whose connections are diverted now
  uint64_t agent_cgroup_;
  bool others_beat_;
  std::shared_ptr<const config::Snapshot> snapshot_;
  uint64_t netns_cookie_;
  std::unordered_map<base::SocketAddress, bool> diverts_;  // as far as it has been asked
};

}  // namespace weir::interception
