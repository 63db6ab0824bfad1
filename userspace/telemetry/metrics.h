// Metrics: everything the agent shows to Prometheus. Istio's standard metrics
// and weir's per-endpoint ones come from the workers' Recorders; what others
// know (descriptors, map sizes, configuration) is asked for by callbacks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "config/snapshot.h"
#include "telemetry/recorder.h"

namespace weir::telemetry {

enum class MetricKind : uint8_t { counter, gauge };

struct Sample {
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
};

class Metrics {
 public:
  // `cluster` is the mesh's name of this cluster, in source_cluster and destination_cluster.
  explicit Metrics(std::string cluster = "Kubernetes");
  ~Metrics();

  // Set up before the first exposition(). What is given must live as long as this does; callbacks
  // run on the thread that asks, and must not block on workers.
  void watch(const Recorder& recorder);
  void watch(const AccessLog& log);
  void add(std::string name, std::string help, MetricKind kind, std::function<double()> value);
  void add_family(std::string name, std::string help, MetricKind kind, std::function<std::vector<Sample>()> samples);
  // Says which endpoints there are now, so that one that is never picked counts in the imbalance.
  void use_snapshot(std::function<std::shared_ptr<const config::Snapshot>()> snapshot);

  // Prometheus text (version 0.0.4). Any thread.
  std::string exposition() const;
  std::string exposition(base::Instant now) const;
  // Connections to ports that declare HTTP/2 and were something else. Any thread.
  std::map<ServicePortLabels, uint64_t> misdeclared() const;

 private:
  struct Family {
    std::string name, help;
    MetricKind kind;
    std::function<std::vector<Sample>()> samples;
  };
  // The endpoints' sums at some earlier time.
  struct Mark {
    base::Instant at{};
    std::map<EndpointLabels, uint64_t> rpcs;
  };
  Totals totals() const;
  std::vector<Sample> imbalance(const Totals& totals, base::Instant now) const;

  const std::string cluster_;
  std::vector<const Recorder*> recorders_;
  std::vector<Family> families_;
  std::function<std::shared_ptr<const config::Snapshot>()> snapshot_;

  mutable std::mutex mutex_;
  mutable Mark older_, newer_;  // the imbalance is that of the RPCs since `older_`
};

}  // namespace weir::telemetry
