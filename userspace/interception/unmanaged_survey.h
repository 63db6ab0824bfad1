// UnmanagedSurvey counts the unmanaged connections of the pods, a pod at a time and for each in steps of a millisecond
// or so. It takes a hundredth of a CPU at most: on a crowded node the counts are just older.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "interception/enrolment.h"
#include "interception/unmanaged.h"

namespace weir::interception {

struct UnmanagedCount {
  std::shared_ptr<const config::Pod> pod;
  std::shared_ptr<const config::Service> service;
  uint64_t connections = 0;
};

// A list of sockets under way, as TcpDiag::step().
using SocketListing = std::function<base::Result<NetlinkEnd>(const std::function<void(const TcpSocket&)>& found)>;
using OpenListing = std::function<base::Result<SocketListing>(const NetworkNamespace& netns)>;
base::Result<SocketListing> open_listing(const NetworkNamespace& netns);  // of TcpDiag

class UnmanagedSurvey {
 public:
  // Pods are looked at again after so long: those that had unmanaged connections, and the others, which can get some
  // only while there is no agent or a brake is on, or when a Service is diverted that was not.
  static constexpr base::Duration kAgain = std::chrono::seconds(10), kCalm = std::chrono::seconds(60);
  static constexpr int kPart = 100;  // a step is followed by a hundred times its CPU time

  UnmanagedSurvey(DiversionRows rows, uint64_t agent_cgroup, OpenListing open = &open_listing);

  // The pods there are, of which the enrolled ones count, and the Snapshot in use. New ones are due at once.
  void follow(std::span<const PodStatus> pods, std::shared_ptr<const config::Snapshot> snapshot, base::Instant now);
  // When step() has something to do; nullopt: there are no pods.
  std::optional<base::Instant> due() const;
  // One step if it is due. True: the counts have changed.
  bool step(base::Instant now);

  // Sets each pod's unmanaged_connections.
  void fill_in(std::span<PodStatus> pods) const;
  // No zeros. Those of a pod that can't be looked at stay as they were.
  std::vector<UnmanagedCount> counts() const;
  uint64_t failures() const { return failures_; }  // pods that could not be looked at, since the start

 private:
  using Counts = std::map<std::string, UnmanagedCount>;  // by the service's FQDN
  struct Entry {
    std::shared_ptr<const config::Pod> pod;
    std::shared_ptr<const NetworkNamespace> netns;
    base::Instant due;
    Counts counts;
  };
  // The pod that is looked at.
  struct Look {
    uint64_t netns_cookie;
    UnmanagedFilter filter;
    SocketListing listing;
    Counts counts;
  };
  const std::pair<const uint64_t, Entry>& next() const;
  bool begin(base::Instant now);
  bool proceed(base::Instant now);
  bool fail(uint64_t netns_cookie, const base::Error& error, base::Instant now);

  DiversionRows rows_;
  uint64_t agent_cgroup_;
  OpenListing open_;
  std::shared_ptr<const config::Snapshot> snapshot_;
  std::map<uint64_t, Entry> entries_;  // by network namespace cookie
  std::optional<Look> look_;
  base::Instant rested_{};  // no step before
  uint64_t failures_ = 0;
};

}  // namespace weir::interception
