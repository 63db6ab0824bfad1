// What a run of a load generator found, and the form in which it says so.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cpu_sampler.h"
#include "latency_histogram.h"

namespace bench {

struct LoadResult {
  double seconds = 0;                      // of the window
  uint64_t completed = 0;                  // calls that ended in the window
  uint64_t total = 0;                      // calls that ended at all
  std::map<std::string, uint64_t> errors;  // by grpc-status or what else went wrong, warm-up included
  std::vector<uint64_t> backends;          // calls by x-backend, in the window
  LatencyHistogram latency;                // closed loop: of calls that ended in the window; open: of those due in it
  CpuTimes cpu;                            // of the window
};

// One JSON object; times in microseconds.
std::string to_json(const LoadResult& result);

}  // namespace bench
