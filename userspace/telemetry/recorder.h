// Recorder: where one worker's exchanges and relays leave their records. Counts
// them by source, destination and outcome in series that only this worker
// writes, and hands to the access log what the log wants. In steady state
// record() takes no lock and allocates nothing; other threads read the sums at
// any time with collect().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "telemetry/access_log.h"
#include "telemetry/counters.h"
#include "telemetry/flat_table.h"
#include "telemetry/labels.h"
#include "telemetry/misdeclared.h"
#include "telemetry/rpc.h"
#include "telemetry/totals.h"

namespace weir::telemetry {

// Bounds on memory. What does not fit is counted in one series whose labels are all "other".
struct RecorderLimits {
  size_t series = 4096;  // of RPCs, and as many of TCP connections
  size_t endpoints = 16384;
  // When a table is three quarters full, a change of configuration drops what was idle for so long.
  base::Duration idle = std::chrono::minutes(10);
};

class Recorder {
 public:
  explicit Recorder(AccessLog& log, RecorderLimits limits = {});
  ~Recorder();

  // The worker's thread.
  void record(const Rpc& rpc);
  void opened(const TcpConnection& connection);    // its endpoint is known, or that there will be none
  void progress(const TcpConnection& connection);  // counts the bytes of one that goes on; it has no flags yet
  void record(const TcpConnection& connection);
  // Whether record() would log an RPC or connection that ends now; if not, what only the log wants need not be found
  // out.
  bool logs(const config::Pod& source, bool failed);
  // A connection to a port that declares HTTP/2 is something else.
  void misdeclared(const config::Service& service, uint16_t port) { misdeclared_.count(service, port); }
  // Call before the first record that follows a change of Snapshot, or of a Pod: from here on the
  // addresses of Pods, Services and Clusters may name other objects than before.
  void snapshot_changed();

  // Any thread: adds this worker's sums.
  void collect(Totals& into) const;

 private:
  struct RpcSeries;
  struct TcpSeries;
  struct EndpointTally;
  struct SourceEntry {
    const Source* labels = nullptr;
    std::optional<LogMode> log_mode;  // of its namespace
  };
  // Where RPCs of one (service, cluster, endpoint) are counted.
  struct Route {
    const Destination* labels = nullptr;
    EndpointTally* tally = nullptr;  // null: no endpoint, or no room
  };

  struct PodKey {
    const config::Pod* pod = nullptr;
    uint64_t hash() const { return mix(reinterpret_cast<uintptr_t>(pod)); }
    bool operator==(const PodKey&) const = default;
  };
  // An Endpoint is recognised by its address: what record() gets may be a copy.
  struct RouteKey {
    const config::Service* service = nullptr;
    const config::Cluster* cluster = nullptr;
    base::SocketAddress endpoint;  // port 0: none
    uint64_t hash() const {
      return mix(reinterpret_cast<uintptr_t>(service) ^ (reinterpret_cast<uintptr_t>(cluster) << 1) ^
                 std::hash<base::SocketAddress>()(endpoint));
    }
    bool operator==(const RouteKey&) const = default;
  };
  struct SeriesKey {
    const Source* source = nullptr;
    const Destination* destination = nullptr;
    uint64_t outcome = 0;
    uint64_t hash() const {
      return mix(reinterpret_cast<uintptr_t>(source) ^ (reinterpret_cast<uintptr_t>(destination) << 1) ^ mix(outcome));
    }
    bool operator==(const SeriesKey&) const = default;
  };

  SourceEntry source_entry(const config::Pod* pod);
  Route route(const config::Service* service, const config::Cluster* cluster, const config::Endpoint* endpoint);
  EndpointTally* tally(const config::Cluster& cluster, const config::Endpoint& endpoint, const Destination& to);
  RpcSeries& rpc_series(const Source& source, const Destination& to, const Rpc& rpc);
  TcpSeries& tcp_series(const Source& source, const Destination& to, Flags flags);
  TcpSeries& tcp_series(const TcpConnection& connection, Flags flags);
  static void count_bytes(TcpSeries& series, const TcpConnection& connection);
  bool wants(const SourceEntry& source, bool failed) const;
  template <class LoggedRecord>
  void log_if_wanted(const LoggedRecord& record, const SourceEntry& source, bool failed);
  void drop_idle();

  AccessLog& log_;
  const RecorderLimits limits_;
  std::unique_ptr<LogRecord> scratch_;

  // Labels by content, so that they outlive the Snapshot they came from.
  std::set<Source> sources_;
  std::set<Destination> destinations_;
  const Source* other_source_;
  const Destination* other_destination_;

  // By address; emptied by snapshot_changed().
  FlatTable<PodKey, SourceEntry> by_pod_;
  FlatTable<RouteKey, Route> by_route_;

  FlatTable<SeriesKey, RpcSeries*> rpc_index_;
  FlatTable<SeriesKey, TcpSeries*> tcp_index_;
  std::map<std::pair<std::string, base::SocketAddress>, EndpointTally*> tallies_index_;
  PublishedList<RpcSeries> rpcs_;
  PublishedList<TcpSeries> tcps_;
  PublishedList<EndpointTally> tallies_;
  Misdeclared misdeclared_;
  base::Instant last_drop_{};

  // Held by readers while they read, and by the worker (which only tries) to drop what is idle.
  mutable std::mutex reading_;
};

}  // namespace weir::telemetry
