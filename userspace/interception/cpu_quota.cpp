#include "interception/cpu_quota.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "interception/cgroup_tree.h"

namespace weir::interception {
namespace {

// "150000 100000": so many microseconds in a period of so many; "max 100000": no limit.
std::optional<double> quota_of(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  double quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return std::nullopt;
  return quota / period;
}

}  // namespace

std::optional<double> cpu_quota(const std::string& proc) {
  auto tree = find_cgroup_tree(proc);
  if (!tree) return std::nullopt;
  std::optional<double> lowest;
  std::filesystem::path folder = tree->agent_cgroup;
  while (true) {
    if (const auto quota = quota_of(folder)) lowest = std::min(lowest.value_or(*quota), *quota);
    if (folder == tree->v2_mount || !folder.has_relative_path()) return lowest;
    folder = folder.parent_path();
  }
}

}  // namespace weir::interception
