// Which namespace of a pod's processes is the pod's: on a machine of files, where a namespace is one that links lead
// to.
#include "interception/pod_processes.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <cerrno>

#include "sandbox.h"

namespace weir::interception::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr pid_t kShim = 100;

struct PodProcessesTest : ::testing::Test {
  PodProcessesTest() {
    for (const char* name : {"machine", "node", "pod", "other"}) folder.write(name, "");
    add(1, 0, "machine");
    add(kShim, 1, "node");
  }
  void add(pid_t process, pid_t parent, const std::string& netns, const std::string& name = "app") {
    const std::string number = std::to_string(process);
    folder.make(number + "/ns");
    folder.link(number + "/ns/net", folder.path(netns));
    folder.write(number + "/stat", number + " (" + name + ") S " + std::to_string(parent) + " 1 1 0");
  }
  // Of processes in one cgroup folder.
  PodProcesses find(const std::string& processes) {
    folder.make("cgroup");
    folder.write("cgroup/cgroup.procs", processes);
    return PodProcessFinder(folder.path("")).find({folder.path("cgroup")});
  }
  static std::vector<pid_t> those_in(const PodProcesses& found) {
    std::vector<pid_t> processes;
    for (const PodNamespace& one : found.namespaces) processes.push_back(one.process);
    return processes;
  }
  TemporaryFolder folder;
};

// As whoever has just looked its file up finds it.
TEST_F(PodProcessesTest, ACgroupThatHasJustGoneIsNotUnreadable) {
  CgroupFolder cgroup;
  cgroup.make("pod");
  const base::Fd procs(open(cgroup.path("pod/cgroup.procs").c_str(), O_PATH | O_CLOEXEC));
  ASSERT_TRUE(procs);
  cgroup.remove("pod");
  folder.make("cgroup");
  folder.link("cgroup/cgroup.procs", "/proc/self/fd/" + std::to_string(procs.get()));
  const base::Fd opened(open(folder.path("cgroup/cgroup.procs").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_FALSE(opened);
  ASSERT_EQ(errno, ENODEV);
  const PodProcesses found = PodProcessFinder(folder.path("")).find({folder.path("cgroup")});
  EXPECT_FALSE(found.any);
  EXPECT_EQ(found.unreadable, 0);
}

TEST_F(PodProcessesTest, WhatHasNotLeftTheNamespaceOfTheShimIsNotInThePods) {
  add(200, kShim, "node", "runc:[0:PARENT]");
  add(201, 200, "node", ") S 1 (");
  const PodProcesses found = find("200\n201\n");
  EXPECT_TRUE(found.any && found.in_node_namespace);
  EXPECT_THAT(those_in(found), IsEmpty());
}

TEST_F(PodProcessesTest, WhatHasLeftItIs) {
  add(200, kShim, "node");
  add(202, kShim, "pod", "pause");
  const PodProcesses found = find("200\n202\n");
  EXPECT_TRUE(found.in_node_namespace);
  EXPECT_THAT(those_in(found), ElementsAre(202));
}

TEST_F(PodProcessesTest, AChildInThePodIsWhereItsParentIs) {
  add(202, kShim, "pod", "pause");
  add(203, 202, "pod");
  EXPECT_THAT(those_in(find("203\n202\n")), ElementsAre(203));
}

TEST_F(PodProcessesTest, AnOrphanIsInThePod) {
  add(203, 1, "pod");
  add(204, 999, "other");  // whose parent has just gone
  EXPECT_THAT(those_in(find("203\n204\n")), ElementsAre(203, 204));
}

TEST_F(PodProcessesTest, TheMachinesNamespaceIsNoPods) {
  add(205, kShim, "machine");
  const PodProcesses found = find("205\n");
  EXPECT_TRUE(found.in_node_namespace);
  EXPECT_THAT(those_in(found), IsEmpty());
}

TEST_F(PodProcessesTest, ParentsThatLeadBackToAChildEndTheSearch) {
  add(206, 207, "pod");
  add(207, 206, "pod");
  EXPECT_THAT(those_in(find("206\n207\n")), ElementsAre(206));
}

}  // namespace
}  // namespace weir::interception::testing
