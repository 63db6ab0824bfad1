#include "load_result.h"

#include <nlohmann/json.hpp>

namespace bench {

std::string to_json(const LoadResult& result) {
  auto us = [](auto ns) { return static_cast<double>(ns) / 1000; };
  const LatencyHistogram& latency = result.latency;
  const nlohmann::json json = {{"seconds", result.seconds},
                               {"completed", result.completed},
                               {"total", result.total},
                               {"errors", result.errors},
                               {"backends", result.backends},
                               {"latency_us",
                                {{"mean", us(latency.mean())},
                                 {"p50", us(latency.percentile(0.5))},
                                 {"p90", us(latency.percentile(0.9))},
                                 {"p99", us(latency.percentile(0.99))},
                                 {"p999", us(latency.percentile(0.999))},
                                 {"max", us(latency.max())}}},
                               {"cpu_us",
                                {{"process", us(result.cpu.process_ns)},
                                 {"cgroup", us(result.cpu.cgroup_ns)},
                                 {"kernel", us(result.cpu.kernel_ns)},
                                 {"busy", us(result.cpu.busy_ns)}}}};
  return json.dump();
}

}  // namespace bench
