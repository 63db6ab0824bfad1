#include "admin/unmanaged_metrics.h"

#include <algorithm>

namespace weir::admin {
namespace {

using interception::AdoptResult;
using interception::UnmanagedCount;
using telemetry::MetricKind;
using telemetry::Sample;

Sample sample_of(std::string namespace_name, std::string pod, std::string service, uint64_t connections) {
  return {{{"source_namespace", std::move(namespace_name)},
           {"source_pod", std::move(pod)},
           {"destination_service", std::move(service)}},
          static_cast<double>(connections)};
}

std::vector<Sample> samples_of(std::vector<UnmanagedCount> counts) {
  std::stable_sort(counts.begin(), counts.end(),
                   [](const UnmanagedCount& a, const UnmanagedCount& b) { return a.connections > b.connections; });
  const size_t shown = counts.size() > kMostUnmanagedSeries ? kMostUnmanagedSeries - 1 : counts.size();
  std::vector<Sample> samples;
  for (size_t i = 0; i < shown; ++i) {
    const UnmanagedCount& count = counts[i];
    samples.push_back(sample_of(count.pod->namespace_name, count.pod->name, count.service->fqdn, count.connections));
  }
  uint64_t others = 0;
  for (size_t i = shown; i < counts.size(); ++i) others += counts[i].connections;
  if (others > 0) samples.push_back(sample_of("other", "other", "other", others));
  return samples;
}

}  // namespace

void add_unmanaged_metrics(telemetry::Metrics& metrics, std::function<UnmanagedTotals()> totals) {
  metrics.add_family(
      "weir_unmanaged_connections",
      "Connections of enrolled pods that go past weir, though they would be diverted if they were dialled "
      "now.",
      MetricKind::gauge, [totals] { return samples_of(totals().counts); });
  metrics.add("weir_unmanaged_count_failures_total", "Times that the connections of a pod could not be counted.",
              MetricKind::counter, [totals] { return static_cast<double>(totals().failures); });
  metrics.add_family(
      "weir_adoptions_total",
      "Connections that weirctl adopt was to close: closed, gone before, not idle (active), or not to be "
      "diverted any more (managed).",
      MetricKind::counter, [totals] {
        std::vector<Sample> samples;
        const auto adoptions = totals().adoptions;
        for (size_t i = 0; i < adoptions.size(); ++i)
          samples.push_back({{{"result", to_string(static_cast<AdoptResult>(i))}}, static_cast<double>(adoptions[i])});
        return samples;
      });
}

}  // namespace weir::admin
