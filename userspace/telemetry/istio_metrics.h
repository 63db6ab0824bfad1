// Totals in the names, labels and types of Istio's standard metrics
// (istio.io, "Istio Standard Metrics"), as Prometheus families.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <vector>

#include "telemetry/totals.h"

namespace weir::telemetry {

// Appends the families that have a sample.
void append_istio_metrics(const Totals& totals, const std::string& cluster, std::vector<prometheus::MetricFamily>& out);

}  // namespace weir::telemetry
