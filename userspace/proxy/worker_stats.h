// What a worker counts. Written by its thread only, read by any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "detection/classify.h"
#include "http2/limits.h"

namespace weir::proxy {

class Counter {
 public:
  // One writer: a plain load and store, without a locked instruction.
  Counter& operator++() { return add(1); }
  Counter& operator--() { return add(static_cast<uint64_t>(-1)); }
  Counter& operator+=(uint64_t n) { return add(n); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  Counter& add(uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    return *this;
  }
  std::atomic<uint64_t> value_{0};
};

// How often an http2::Limit acted.
struct LimitCounter {
  Counter drained, enforced;
};
using LimitCounters = std::array<LimitCounter, http2::kLimits>;

struct WorkerStats {
  Counter sources;  // enrolled pods of this worker
  Counter downstream_connections, downstream_connections_total;
  Counter upstream_connections, upstream_connections_total;
  Counter tcp_relays, tcp_relays_total, tcp_spliced_bytes;
  Counter dials;       // sockets to endpoints that neither a relay nor a pool has yet
  Counter transports;  // all of the above and those not yet decided
  Counter active_rpcs, rpcs_total;
  Counter outlier_ejections;   // endpoints taken out for a while
  Counter ejected_endpoints;   // ... that are out now, each for one pod
  Counter pool_overflows;      // RPCs beyond a limit of connectionPool
  Counter retries;             // attempts after an RPC's first that its retry policy asked for
  Counter retry_overflows;     // those that retryBudget or maxRetries did not allow
  Counter replay_overflows;    // RPCs whose request became too large to be kept for another attempt
  Counter undiverted_accepts;  // accepted without an original destination, and closed
  Counter accept_failures;     // out of descriptors or memory
  Counter refused_connections, refused_streams, shed_connections;  // beyond a pod's limits
  Counter shed_for_agent, refused_sockets;                         // beyond what all pods may hold together
  Counter stalled_downstreams, stalled_upstreams;                  // closed: they took nothing of what was framed
  Counter upstream_connect_failures;
  Counter downstream_protocol_errors, upstream_protocol_errors;
  LimitCounters downstream_limits, upstream_limits;
  // What connections turned out to be: of ports that declare HTTP/2, and of others.
  std::array<std::array<Counter, detection::kVerdicts>, 2> detected;
  Counter redirect_stalls;  // sends put off since the application had not read what it was sent
  Counter turns;            // of the loop
};

}  // namespace weir::proxy
