// Adoption lists unmanaged connections and closes them one at a time, so that their clients dial again, through weir.
// Whoever asks decides which and how fast; that the connection is still one to be closed is looked at right before.
// Thread-safe; works on the calling thread, 5 ms for a pod of 5,000 connections.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "interception/enrolment.h"
#include "interception/unmanaged.h"

namespace weir::interception {

struct UnmanagedConnection {
  std::shared_ptr<const config::Pod> pod;
  UnmanagedFilter::Target target;
  TcpSocket socket;
};

// Which are meant; empty: any. Names are "namespace/name".
struct UnmanagedSelection {
  std::string namespace_name, pod, service;
};

struct UnmanagedList {
  std::vector<UnmanagedConnection> connections;
  bool truncated = false;             // there are more
  std::vector<std::string> problems;  // of pods that could not be looked at
};

enum class AdoptResult : uint8_t {
  closed,
  gone,     // it has ended by itself, or with its pod
  managed,  // connections to that address are not diverted (any more), or it is the agent's
  active,   // not as idle as asked for
};
inline constexpr size_t kAdoptResults = 4;
const char* to_string(AdoptResult result);

struct AdoptRequest {
  std::string pod_uid;
  TcpSocketId id;
  base::Duration min_idle{};  // closed only if nothing went either way for so long, and nothing waits to
  bool active = false;        // closed whatever goes on
};

class Adoption {
 public:
  static constexpr size_t kMostListed = 10'000;

  Adoption(DiversionRows rows, uint64_t agent_cgroup) : rows_(std::move(rows)), agent_cgroup_(agent_cgroup) {}

  // Those of enrolled pods, at most kMostListed.
  UnmanagedList list(std::span<const PodStatus> pods, const std::shared_ptr<const config::Snapshot>& snapshot,
                     const UnmanagedSelection& selection) const;
  // Closes one connection. Error::code EOPNOTSUPP: this kernel can't.
  base::Result<AdoptResult> adopt(std::span<const PodStatus> pods,
                                  const std::shared_ptr<const config::Snapshot>& snapshot, const AdoptRequest& request);
  uint64_t count(AdoptResult result) const { return counts_[static_cast<size_t>(result)]; }

 private:
  base::Result<AdoptResult> try_adopt(const PodStatus& pod, const std::shared_ptr<const config::Snapshot>& snapshot,
                                      const AdoptRequest& request) const;

  DiversionRows rows_;
  uint64_t agent_cgroup_;
  std::array<std::atomic<uint64_t>, kAdoptResults> counts_{};
};

}  // namespace weir::interception
