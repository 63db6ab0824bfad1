#include "cpu_sampler.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace bench {
namespace {

namespace fs = std::filesystem;

uint64_t first_number(const fs::path& file) {
  uint64_t number = 0;
  std::ifstream(file) >> number;
  return number;
}

// schedstat: time on the CPU in nanoseconds comes first. A thread that has just ended counts for nothing.
uint64_t threads_ns(pid_t process) {
  uint64_t total = 0;
  std::error_code gone;
  for (const auto& thread : fs::directory_iterator("/proc/" + std::to_string(process) + "/task", gone)) {
    total += first_number(thread.path() / "schedstat");
  }
  return total;
}

uint64_t cgroup_ns(const std::string& cgroup) {
  std::ifstream file(cgroup + "/cpu.stat");
  std::string name;
  uint64_t value = 0;
  while (file >> name >> value) {
    if (name == "usage_usec") return value * 1000;
  }
  return 0;
}

uint64_t busy_ns() {
  std::ifstream file("/proc/stat");
  std::string name;
  uint64_t user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
  file >> name >> user >> nice >> system >> idle >> iowait >> irq >> softirq;
  return (user + nice + system + irq + softirq) * (1'000'000'000u / static_cast<uint64_t>(sysconf(_SC_CLK_TCK)));
}

bool is_kernel_thread(const fs::path& process) {
  std::ifstream file(process / "stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');  // "PID (name) state ppid ..."; kthreadd is 2
  return name_end != std::string::npos && line.size() > name_end + 4 && line.substr(name_end + 4, 2) == "2 ";
}

}  // namespace

CpuTimes operator-(const CpuTimes& later, const CpuTimes& earlier) {
  return {later.process_ns - earlier.process_ns, later.cgroup_ns - earlier.cgroup_ns,
          later.kernel_ns - earlier.kernel_ns, later.busy_ns - earlier.busy_ns};
}

CpuSampler::CpuSampler(pid_t process, std::string cgroup) : process_(process), cgroup_(std::move(cgroup)) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    if (is_kernel_thread(entry.path())) kernel_threads_.push_back(entry.path() / "schedstat");
  }
}

CpuTimes CpuSampler::now() const {
  CpuTimes times;
  if (process_ != 0) times.process_ns = threads_ns(process_);
  if (!cgroup_.empty()) times.cgroup_ns = cgroup_ns(cgroup_);
  for (const auto& file : kernel_threads_) times.kernel_ns += first_number(file);
  times.busy_ns = busy_ns();
  return times;
}

}  // namespace bench
