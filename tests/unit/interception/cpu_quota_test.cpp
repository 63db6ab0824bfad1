#include "interception/cpu_quota.h"

#include <gtest/gtest.h>

#include "sandbox.h"

namespace weir::interception {
namespace {

class CpuQuota : public ::testing::Test {
 protected:
  CpuQuota() {
    for (const char* folder : {"proc/self", "v2/kubepods/burstable/pod1/agent"}) folder_.make(folder);
    folder_.write("proc/mounts", "none " + folder_.path("v2") + " cgroup2 rw 0 0\n");
    folder_.write("proc/self/cgroup", "0::/kubepods/burstable/pod1/agent\n");
  }
  void limit(const std::string& cgroup, const std::string& text) { folder_.write("v2" + cgroup + "/cpu.max", text); }
  std::optional<double> find() const { return cpu_quota(folder_.path("proc")); }

  testing::TemporaryFolder folder_;
};

TEST_F(CpuQuota, IsTheContainers) {
  EXPECT_EQ(find(), std::nullopt);
  limit("/kubepods/burstable/pod1/agent", "max 100000\n");
  EXPECT_EQ(find(), std::nullopt);
  limit("/kubepods/burstable/pod1/agent", "150000 100000\n");
  EXPECT_EQ(find(), 1.5);
}

TEST_F(CpuQuota, IsTheLowestOfThoseAbove) {
  limit("/kubepods/burstable/pod1/agent", "400000 100000\n");
  limit("/kubepods/burstable/pod1", "20000 10000\n");
  EXPECT_EQ(find(), 2);
  limit("/kubepods", "50000 100000\n");
  EXPECT_EQ(find(), 0.5);
}

TEST_F(CpuQuota, IsNoneWhereNobodyTells) {
  for (const char* odd : {"", "100000\n", "-1 100000\n", "0 0\n", "100000 0\n", "many 100000\n"}) {
    limit("/kubepods/burstable/pod1/agent", odd);
    EXPECT_EQ(find(), std::nullopt) << odd;
  }
  EXPECT_EQ(cpu_quota(folder_.path("nothing")), std::nullopt);
}

}  // namespace
}  // namespace weir::interception
