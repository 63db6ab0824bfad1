// What a limit on CPU, the container's or one above it, leaves to this process.
#pragma once

#include <optional>
#include <string>

namespace weir::interception {

// In CPUs: the lowest cpu.max of the process's cgroup (v2) and of those above it that can be seen; nullopt: no limit.
std::optional<double> cpu_quota(const std::string& proc = "/proc");

}  // namespace weir::interception
