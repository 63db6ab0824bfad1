// Totals: what the Recorders of all workers have counted, added up by labels.
// Made anew for each look at the metrics.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>

#include "base/address.h"
#include "telemetry/counters.h"
#include "telemetry/labels.h"
#include "telemetry/misdeclared.h"

namespace weir::telemetry {

inline constexpr int kOtherCode = -1;  // response_code of the series for what did not fit

struct RpcLabels {
  Source source;
  Destination destination;
  int response_code = 0;
  int grpc_status = -1;
  uint32_t flags = 0;
  bool grpc = false;
  auto operator<=>(const RpcLabels&) const = default;
};

struct HistogramTotals {
  std::array<uint64_t, kBuckets.size() + 1> buckets{};
  double sum = 0;
  template <uint64_t Unit>
  void add(const Histogram<Unit>& histogram) {
    for (size_t i = 0; i < buckets.size(); ++i) buckets[i] += histogram.bucket(i);
    sum += histogram.sum();
  }
  uint64_t count() const {
    uint64_t total = 0;
    for (const uint64_t bucket : buckets) total += bucket;
    return total;
  }
};

struct RpcTotals {
  HistogramTotals duration_ms, request_bytes, response_bytes;  // the count of each is that of RPCs
  uint64_t request_messages = 0, response_messages = 0;
};

struct TcpLabels {
  Source source;
  Destination destination;
  uint32_t flags = 0;
  auto operator<=>(const TcpLabels&) const = default;
};

struct TcpTotals {
  HistogramTotals duration_ms;  // its count is that of connections that closed
  uint64_t opened = 0, bytes_received = 0, bytes_sent = 0;
};

struct EndpointLabels {
  std::string cluster;
  base::SocketAddress address;
  auto operator<=>(const EndpointLabels&) const = default;
};

struct EndpointTotals {
  std::string pod, service_name, service_namespace;
  uint64_t rpcs = 0, failures = 0;
};

struct Totals {
  std::map<RpcLabels, RpcTotals> rpcs;
  std::map<TcpLabels, TcpTotals> tcps;
  std::map<EndpointLabels, EndpointTotals> endpoints;
  std::map<ServicePortLabels, uint64_t> misdeclared;  // connections
};

}  // namespace weir::telemetry
