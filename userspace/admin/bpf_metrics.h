// The counters of the BPF programs as metrics: what was diverted, and what went
// the plain way for which reason.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "admin/sources.h"
#include "telemetry/metrics.h"

namespace weir::admin {

// A stat "bypass_REASON" is a sample of weir_bypass_total{reason}; each of the others a counter of
// its own. While the counters can't be read, they are absent.
void add_bpf_metrics(telemetry::Metrics& metrics, std::function<base::Result<BpfCounters>()> counters);

}  // namespace weir::admin
