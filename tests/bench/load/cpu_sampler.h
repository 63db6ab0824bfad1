// CPU time around a window of the load: of the measured process, of everything that takes part (a cgroup
// and the kernel's own threads), and of the whole machine. Taken inside the load generator, so that the
// window is exactly the one in which the calls are counted.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct CpuTimes {
  uint64_t process_ns = 0;  // all threads of the process
  uint64_t cgroup_ns = 0;   // everything in the cgroup
  uint64_t kernel_ns = 0;   // kernel threads (redirected bytes move in them)
  uint64_t busy_ns = 0;     // the machine, by clock ticks
};

CpuTimes operator-(const CpuTimes& later, const CpuTimes& earlier);

class CpuSampler {
 public:
  // No process: 0; no cgroup: empty.
  CpuSampler(pid_t process, std::string cgroup);
  CpuTimes now() const;

 private:
  pid_t process_;
  std::string cgroup_;
  std::vector<std::string> kernel_threads_;  // their schedstat files
};

}  // namespace bench
