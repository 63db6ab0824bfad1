#include "interception/cgroup_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "sandbox.h"

namespace weir::interception {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct FolderCase {
  const char* below_root;
  const char* uid;  // nullptr: of no pod
};

constexpr const char* kUid = "0d5cf1a2-3b4e-4f6a-8b9c-112233445566";

constexpr FolderCase kFolders[] = {
    // cgroupfs driver
    {"besteffort/pod0d5cf1a2-3b4e-4f6a-8b9c-112233445566", kUid},
    {"burstable/pod0d5cf1a2-3b4e-4f6a-8b9c-112233445566/3f1c9a", kUid},
    {"pod0d5cf1a2-3b4e-4f6a-8b9c-112233445566", kUid},
    {"pod0d5cf1a2-3b4e-4f6a-8b9c-112233445566/3f1c9a/nested", kUid},
    // A static pod's folder carries the hash of its manifest.
    {"burstable/pod6e3c1f0f1d0a4b5c9d8e7f6a5b4c3d2e", "6e3c1f0f1d0a4b5c9d8e7f6a5b4c3d2e"},
    // What a pod makes inside its folder is its own, whatever it is called.
    {"besteffort/pod1/podvictim", "1"},
    {"pod1/besteffort/podvictim", "1"},
    {"besteffort", nullptr},
    {"burstable/3f1c9a", nullptr},
    {"pod", nullptr},
    {"besteffort/pod", nullptr},
    {"", nullptr},
    {"/", nullptr},
    {"system/pod1", nullptr},
    {"besteffort/burstable/pod1", nullptr},
    {"podhas space", nullptr},
    {"pod\n1", nullptr},
    {"Pod1", nullptr},
    // systemd driver
    {"kubepods-besteffort.slice/kubepods-besteffort-pod0d5cf1a2_3b4e_4f6a_8b9c_112233445566.slice", kUid},
    {"kubepods-burstable.slice/kubepods-burstable-pod0d5cf1a2_3b4e_4f6a_8b9c_112233445566.slice/"
     "cri-containerd-3f1c9a.scope",
     kUid},
    {"kubepods-pod0d5cf1a2_3b4e_4f6a_8b9c_112233445566.slice", kUid},
    {"kubepods-pod0d5cf1a2_3b4e_4f6a_8b9c_112233445566.slice/crio-3f1c9a.scope/container", kUid},
    {"kubelet-kubepods-besteffort.slice/"
     "kubelet-kubepods-besteffort-pod0d5cf1a2_3b4e_4f6a_8b9c_112233445566.slice",
     kUid},
    {"kubelet-kubepods-pod7.slice", "7"},
    {"kubepods-besteffort.slice", nullptr},
    {"kubepods-besteffort.slice/kubepods-burstable-pod7.slice", nullptr},
    {"kubepods-besteffort-pod7.slice", nullptr},
    {"kubepods-pod.slice", nullptr},
    {"kubepods-burstable.slice/cri-containerd-1.scope", nullptr},
    {"-pod7.slice", nullptr},
    {"system.slice", nullptr},
    {".slice", nullptr},
};

TEST(PodUid, FromFolder) {
  for (const auto& [below_root, uid] : kFolders) {
    std::optional<std::string> expected;
    if (uid) expected = uid;
    EXPECT_EQ(pod_uid_of(below_root), expected) << below_root;
  }
}

TEST(PodUid, HasABoundedLength) {
  EXPECT_TRUE(pod_uid_of("pod" + std::string(128, 'a')));
  EXPECT_FALSE(pod_uid_of("pod" + std::string(129, 'a')));
}

TEST(MayHoldPods, TheRootAndQosFolders) {
  for (const char* folder : {"", "besteffort", "burstable", "kubepods-besteffort.slice", "kubepods-burstable.slice",
                             "kubelet-kubepods-burstable.slice"}) {
    EXPECT_TRUE(may_hold_pods(folder)) << folder;
  }
  for (const char* folder : {"pod1", "system", "besteffort/x", "mykubepods.slice", "burstable.slice", "kubepods"}) {
    EXPECT_FALSE(may_hold_pods(folder)) << folder;
  }
}

TEST(CgroupMounts, OfAHybridHost) {
  EXPECT_THAT(parse_cgroup_mounts("proc /proc proc rw 0 0\n"
                                  "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
                                  "cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n"
                                  "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n"
                                  "cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0\n"
                                  "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n"),
              ElementsAre(CgroupMount{"/sys/fs/cgroup/pids", false, "pids"},
                          CgroupMount{"/sys/fs/cgroup/cpu,cpuacct", false, "cpu,cpuacct"},
                          CgroupMount{"/sys/fs/cgroup/systemd", false, "name=systemd"},
                          CgroupMount{"/sys/fs/cgroup/unified", true, ""}));
}

TEST(CgroupMounts, WithEscapesAndWithoutNewlineAtTheEnd) {
  EXPECT_THAT(parse_cgroup_mounts("none /mnt/my\\040cgroups\\134x\\04 cgroup2 rw 0 0"),
              ElementsAre(CgroupMount{"/mnt/my cgroups\\x\\04", true, ""}));
}

TEST(CgroupMounts, OfGarbage) {
  EXPECT_TRUE(parse_cgroup_mounts("").empty());
  EXPECT_TRUE(parse_cgroup_mounts("\n\n cgroup2\ncgroup2\ncgroup2 cgroup2").empty());
}

TEST(V2Cgroup, IsTheLineWithTheZero) {
  EXPECT_EQ(parse_v2_cgroup("9:name=systemd:/a\n4:memory:/b\n0::/kubepods/besteffort/pod1/c\n"),
            "/kubepods/besteffort/pod1/c");
  EXPECT_EQ(parse_v2_cgroup("0::/"), "/");
  EXPECT_EQ(parse_v2_cgroup("0::/x (deleted)\n"), "/x");
  EXPECT_EQ(parse_v2_cgroup("4:memory:/b\n"), std::nullopt);
  EXPECT_EQ(parse_v2_cgroup("0::nonsense\n"), std::nullopt);
}

// A machine as find_cgroup_tree() sees it: plain folders stand for the hierarchies.
class Tree : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.make("proc/self");
    folder_.make("v2");
    folder_.make("pids");
    folder_.write("proc/self/cgroup", "0::/\n");
    mount(folder_.path("v2") + " cgroup2 rw");
  }
  void mount(const std::string& line) {
    mounts_ += "none " + line + " 0 0\n";
    folder_.write("proc/mounts", mounts_);
  }
  CgroupTree find() {
    auto tree = find_cgroup_tree(folder_.path("proc"));
    EXPECT_TRUE(tree.ok()) << tree.error().message;
    return tree.value();
  }

  testing::TemporaryFolder folder_;
  std::string mounts_;
};

TEST_F(Tree, WithoutPodsYet) {
  CgroupTree tree = find();
  EXPECT_EQ(tree.v2_mount, folder_.path("v2"));
  EXPECT_EQ(tree.pods_cgroup, folder_.path("v2"));
  EXPECT_EQ(tree.agent_cgroup, folder_.path("v2"));
  EXPECT_THAT(tree.roots, ElementsAre(folder_.path("v2/kubepods"), folder_.path("v2/kubepods.slice"),
                                      folder_.path("v2/kubelet/kubepods"),
                                      folder_.path("v2/kubelet.slice/kubelet-kubepods.slice")));
}

TEST_F(Tree, AttachesToTheKubepodsFolder) {
  folder_.make("v2/kubepods.slice/kubepods-besteffort.slice");
  EXPECT_EQ(find().pods_cgroup, folder_.path("v2/kubepods.slice"));
  folder_.make("v2/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod7.slice");
  EXPECT_EQ(find().pods_cgroup, folder_.path("v2/kubepods.slice"));
}

TEST_F(Tree, PrefersTheFolderThatHoldsPods) {
  folder_.make("v2/kubepods");
  folder_.make("v2/kubepods.slice/kubepods-pod7.slice");
  EXPECT_EQ(find().pods_cgroup, folder_.path("v2/kubepods.slice"));
}

TEST_F(Tree, AttachesToTheRootWhereSeveralFoldersHoldPods) {
  folder_.make("v2/kubepods/burstable/pod1");
  folder_.make("v2/kubepods.slice/kubepods-pod7.slice");
  EXPECT_EQ(find().pods_cgroup, folder_.path("v2"));
}

TEST_F(Tree, AttachesToTheRootWherePodsAreInV1Only) {
  mount(folder_.path("pids") + " cgroup rw,pids");
  folder_.make("v2/kubepods");
  folder_.make("pids/kubepods/besteffort/pod1");
  CgroupTree tree = find();
  EXPECT_EQ(tree.pods_cgroup, folder_.path("v2"));
  EXPECT_THAT(tree.roots, Contains(folder_.path("pids/kubepods")));
  folder_.make("v2/kubepods/besteffort/pod1");
  EXPECT_EQ(find().pods_cgroup, folder_.path("v2/kubepods"));
}

TEST_F(Tree, OfTheNodeSeenFromAContainer) {
  folder_.make("host/kubepods/besteffort/pod1");
  mount(folder_.path("host") + " cgroup2 ro");
  EXPECT_EQ(find().v2_mount, folder_.path("host"));
}

TEST_F(Tree, FindsTheAgentsOwnCgroup) {
  folder_.make("v2/system.slice/weir.service");
  folder_.write("proc/self/cgroup", "0::/system.slice/weir.service\n");
  EXPECT_EQ(find().agent_cgroup, folder_.path("v2/system.slice/weir.service"));
  for (const char* unknown : {"0::/../other\n", "0::/not/there\n", "4:memory:/x\n", ""}) {
    folder_.write("proc/self/cgroup", unknown);
    EXPECT_EQ(find().agent_cgroup, folder_.path("v2")) << unknown;
  }
}

TEST_F(Tree, FindsTheAgentsOwnCgroupFromInsideACgroupNamespace) {
  const std::string own = "v2/kubepods/besteffort/pod1/agent";
  for (const char* other : {"v2/kubepods/besteffort/pod0/x", "v2/kubepods/besteffort/pod2/x"}) {
    folder_.make(other);
    folder_.write(std::string(other) + "/cgroup.procs", "1\n" + std::to_string(getpid()) + "0\n");
  }
  folder_.make(own);
  folder_.write(own + "/cgroup.procs", "1\n" + std::to_string(getpid()) + "\n");
  for (const char* seen : {"0::/\n", "0::/../../pod1/agent\n", ""}) {
    folder_.write("proc/self/cgroup", seen);
    EXPECT_EQ(find().agent_cgroup, folder_.path(own)) << seen;
  }
  // Really in the root.
  folder_.write("v2/cgroup.procs", std::to_string(getpid()) + "\n");
  EXPECT_EQ(find().agent_cgroup, folder_.path("v2"));
}

TEST_F(Tree, FailsWithoutCgroup2) {
  folder_.write("proc/mounts", "none " + folder_.path("pids") + " cgroup rw,pids 0 0\n");
  auto tree = find_cgroup_tree(folder_.path("proc"));
  ASSERT_FALSE(tree.ok());
  EXPECT_THAT(tree.error().message, HasSubstr("mount -t cgroup2"));
  EXPECT_FALSE(find_cgroup_tree(folder_.path("nothing")).ok());
}

TEST(ThisMachine, HasCgroup2) {
  auto tree = find_cgroup_tree();
  ASSERT_TRUE(tree.ok()) << tree.error().message;
  EXPECT_TRUE(std::filesystem::exists(tree->v2_mount + "/cgroup.procs"));
  EXPECT_TRUE(std::filesystem::exists(tree->agent_cgroup + "/cgroup.procs"));
}

}  // namespace
}  // namespace weir::interception
