// weir_unmanaged_connections by pod and service, and what became of those that were to be adopted.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "interception/adoption.h"
#include "interception/unmanaged_survey.h"
#include "telemetry/metrics.h"

namespace weir::admin {

struct UnmanagedTotals {
  std::vector<interception::UnmanagedCount> counts;
  uint64_t failures = 0;  // of counting
  std::array<uint64_t, interception::kAdoptResults> adoptions{};
};

// Series that the gauge has at most; what the others count is summed up as "other".
inline constexpr size_t kMostUnmanagedSeries = 500;

void add_unmanaged_metrics(telemetry::Metrics& metrics, std::function<UnmanagedTotals()> totals);

}  // namespace weir::admin
