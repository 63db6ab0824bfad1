#include "interception/cgroup_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <sstream>

#include "base/log.h"
#include "sandbox.h"

namespace weir::interception {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// Collects changes until `uid` is among them, for at most two seconds.
bool is_told_of(CgroupWatcher& watcher, const std::string& uid) {
  base::Instant end = base::MonotonicClock::now() + std::chrono::seconds(2);
  while (base::MonotonicClock::now() < end) {
    if (watcher.read_changes().contains(uid)) return true;
    pollfd wait{watcher.fd(), POLLIN, 0};
    poll(&wait, 1, 50);
  }
  return false;
}

class Watcher : public ::testing::Test {
 protected:
  std::string pods(const std::string& below) const { return folder_.path("kubepods/" + below); }
  testing::TemporaryFolder folder_{"/dev/shm"};
  CgroupWatcher watcher_{{folder_.path("kubepods")}};
};

TEST_F(Watcher, FindsWhatIsThereAlready) {
  folder_.make("kubepods/besteffort/pod1/a");
  folder_.make("kubepods/pod2");
  folder_.make("kubepods/system/pod3");
  ASSERT_TRUE(watcher_.start().ok());
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1", "2"));
  EXPECT_THAT(watcher_.folders("1"), ElementsAre(pods("besteffort/pod1"), pods("besteffort/pod1/a")));
  EXPECT_THAT(watcher_.folders("2"), ElementsAre(pods("pod2")));
  EXPECT_THAT(watcher_.folders("3"), IsEmpty());
  EXPECT_THAT(watcher_.read_changes(), IsEmpty());
}

// Rescans come every second meanwhile.
TEST_F(Watcher, OutOfDescriptorsItSaysSoOnceEachTime) {
  folder_.make("kubepods/pod1/a");
  ASSERT_TRUE(watcher_.start().ok());
  std::ostringstream text;
  const auto before = base::log::default_logger();
  base::log::set_default_logger(
      std::make_shared<base::log::logger>("test", std::make_shared<base::log::sinks::ostream_sink_mt>(text)));
  rlimit all{};
  getrlimit(RLIMIT_NOFILE, &all);
  for (int round = 0; round < 2; ++round) {
    const rlimit none{0, all.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    for (int i = 0; i < 5; ++i) watcher_.rescan();
    EXPECT_TRUE(watcher_.degraded());
    setrlimit(RLIMIT_NOFILE, &all);
    for (int i = 0; i < 5; ++i) watcher_.rescan();
    EXPECT_FALSE(watcher_.degraded());
  }
  base::log::set_default_logger(before);
  size_t warnings = 0, ends = 0;
  std::istringstream lines(text.str());
  for (std::string line; std::getline(lines, line);) {
    warnings += line.find("[warning]") != std::string::npos;
    ends += line.find("[info]") != std::string::npos;
  }
  EXPECT_EQ(warnings, 2u) << text.str();
  EXPECT_EQ(ends, 2u) << text.str();
}

TEST_F(Watcher, SeesNestedFoldersThatAppearAtOnce) {
  folder_.make("kubepods");
  ASSERT_TRUE(watcher_.start().ok());
  folder_.make("kubepods/burstable/pod1/a");
  folder_.make("kubepods/kubepods-pod2.slice/cri-containerd-x.scope");
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1", "2"));
  EXPECT_THAT(watcher_.folders("1"), ElementsAre(pods("burstable/pod1"), pods("burstable/pod1/a")));
  EXPECT_EQ(watcher_.folders("2").size(), 2u);
}

TEST_F(Watcher, SeesFoldersVanish) {
  folder_.make("kubepods/burstable/pod1/a");
  folder_.make("kubepods/burstable/pod10");
  ASSERT_TRUE(watcher_.start().ok());
  watcher_.read_changes();
  folder_.remove("kubepods/burstable/pod1/a");
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1"));
  EXPECT_THAT(watcher_.folders("1"), ElementsAre(pods("burstable/pod1")));
  folder_.remove("kubepods/burstable/pod1");
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1"));
  EXPECT_THAT(watcher_.folders("1"), IsEmpty());
  EXPECT_THAT(watcher_.folders("10"), ElementsAre(pods("burstable/pod10")));
}

TEST_F(Watcher, FollowsAFolderThatIsReplaced) {
  folder_.make("kubepods/pod1/a");
  ASSERT_TRUE(watcher_.start().ok());
  folder_.remove("kubepods/pod1");
  folder_.make("kubepods/pod1");
  watcher_.read_changes();
  EXPECT_THAT(watcher_.folders("1"), ElementsAre(pods("pod1")));
  folder_.make("kubepods/pod1/b");
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1"));
  EXPECT_THAT(watcher_.folders("1"), ElementsAre(pods("pod1"), pods("pod1/b")));
}

TEST_F(Watcher, RootAppearsVanishesAndReappears) {
  CgroupWatcher watcher({folder_.path("kubelet.slice/kubelet-kubepods.slice"), folder_.path("kubepods/")});
  ASSERT_TRUE(watcher.start().ok());
  for (int round = 0; round < 3; ++round) {
    folder_.make("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod1.slice");
    folder_.make("kubepods/besteffort/pod2");
    EXPECT_THAT(watcher.read_changes(), ElementsAre("1", "2")) << round;
    EXPECT_EQ(watcher.folders("1").size(), 1u);
    folder_.remove("kubelet.slice");
    folder_.remove("kubepods");
    EXPECT_THAT(watcher.read_changes(), ElementsAre("1", "2")) << round;
    EXPECT_THAT(watcher.folders("1"), IsEmpty());
    EXPECT_THAT(watcher.folders("2"), IsEmpty());
  }
}

TEST_F(Watcher, RootOneStepAtATime) {
  CgroupWatcher watcher({folder_.path("a/b/c")});
  ASSERT_TRUE(watcher.start().ok());
  for (const char* step : {"a", "a/b", "a/b/c", "a/b/c/pod1"}) {
    EXPECT_THAT(watcher.read_changes(), IsEmpty());
    folder_.make(step);
  }
  EXPECT_THAT(watcher.read_changes(), ElementsAre("1"));
}

TEST_F(Watcher, WhatAPodMakesIsItsOwn) {
  folder_.make("kubepods/besteffort/pod1/container/podvictim");
  ASSERT_TRUE(watcher_.start().ok());
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1"));
  EXPECT_THAT(watcher_.folders("victim"), IsEmpty());
}

TEST_F(Watcher, LooksOnlySoFarIntoAPod) {
  folder_.make("kubepods/besteffort/pod1/1/2/3/4");
  folder_.make("kubepods/pod2/1/2/3/4");
  ASSERT_TRUE(watcher_.start().ok());
  EXPECT_THAT(watcher_.folders("1"),
              ElementsAre(pods("besteffort/pod1"), pods("besteffort/pod1/1"), pods("besteffort/pod1/1/2")));
  EXPECT_THAT(watcher_.folders("2"), ElementsAre(pods("pod2"), pods("pod2/1"), pods("pod2/1/2")));
}

TEST_F(Watcher, BoundsTheFoldersOfAPod) {
  folder_.make("kubepods/pod1/sandbox");
  ASSERT_TRUE(watcher_.start().ok());
  for (int i = 0; i < 300; ++i) folder_.make("kubepods/pod1/sandbox/" + std::to_string(i));
  folder_.make("kubepods/pod2");
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("1", "2"));
  EXPECT_EQ(watcher_.folders("1").size(), 256u);
  EXPECT_THAT(watcher_.folders("1"), Contains(pods("pod1/sandbox")));
  watcher_.rescan();
  EXPECT_EQ(watcher_.folders("1").size(), 256u);
}

TEST_F(Watcher, IgnoresFilesAndLinks) {
  folder_.make("kubepods/besteffort");
  folder_.make("elsewhere/a");
  ASSERT_TRUE(watcher_.start().ok());
  folder_.write("kubepods/besteffort/pod1", "");
  folder_.link("kubepods/besteffort/pod2", folder_.path("elsewhere"));
  EXPECT_THAT(watcher_.read_changes(), IsEmpty());
  watcher_.rescan();
  EXPECT_THAT(watcher_.read_changes(), IsEmpty());
}

// More events than fs.inotify.max_queued_events holds: the last ones are lost.
TEST_F(Watcher, RecoversFromAQueueThatOverflows) {
  folder_.make("kubepods/besteffort/pod1");
  folder_.make("kubepods/besteffort/pod2");
  folder_.make("kubepods/besteffort/pod3/old");
  ASSERT_TRUE(watcher_.start().ok());
  watcher_.read_changes();
  for (int i = 0; i < 10000; ++i) {
    std::string noise = pods("besteffort/" + std::to_string(i));
    ASSERT_EQ(mkdir(noise.c_str(), 0755), 0);
    ASSERT_EQ(rmdir(noise.c_str()), 0);
  }
  folder_.remove("kubepods/besteffort/pod2");
  folder_.remove("kubepods/besteffort/pod3");
  folder_.make("kubepods/besteffort/pod3/new");
  folder_.make("kubepods/besteffort/pod4/a");
  // The events that were kept come in pieces.
  std::set<std::string> changed;
  for (int i = 0; i < 10; ++i) changed.merge(watcher_.read_changes());
  EXPECT_THAT(changed, ElementsAre("1", "2", "3", "4"));
  EXPECT_THAT(watcher_.folders("2"), IsEmpty());
  EXPECT_THAT(watcher_.folders("3"), ElementsAre(pods("besteffort/pod3"), pods("besteffort/pod3/new")));
  EXPECT_THAT(watcher_.folders("4"), ElementsAre(pods("besteffort/pod4"), pods("besteffort/pod4/a")));
  // The folders that replaced others of their name are watched.
  folder_.make("kubepods/besteffort/pod3/more");
  EXPECT_THAT(watcher_.read_changes(), ElementsAre("3"));
}

TEST(WatcherStart, FailsWithoutRoots) {
  EXPECT_FALSE(CgroupWatcher({}).start().ok());
  EXPECT_FALSE(CgroupWatcher({"relative/kubepods"}).start().ok());
}

class CgroupWatch : public ::testing::Test {
 protected:
  testing::CgroupFolder cgroup_;
  CgroupWatcher watcher_{{cgroup_.path("kubepods")}};
};

TEST_F(CgroupWatch, TellsWhenProcessesComeAndGo) {
  cgroup_.make("kubepods/burstable/pod1/a");
  ASSERT_TRUE(watcher_.start().ok());
  watcher_.read_changes();
  EXPECT_TRUE(watcher_.tells_processes("1"));
  for (int round = 0; round < 3; ++round) {
    testing::Process process;
    cgroup_.put(process.pid(), "kubepods/burstable/pod1/a");
    EXPECT_TRUE(is_told_of(watcher_, "1"));
    process.end();
    EXPECT_TRUE(is_told_of(watcher_, "1"));
  }
}

// The kernel reports nothing for a watch on a removed cgroup: it would stay for ever.
TEST_F(CgroupWatch, GivesWatchesBack) {
  cgroup_.make("kubepods/burstable");
  ASSERT_TRUE(watcher_.start().ok());
  size_t before = testing::watches(watcher_.fd());
  ASSERT_GT(before, 0u);
  for (int i = 0; i < 50; ++i) {
    std::string pod = "kubepods/burstable/pod" + std::to_string(i);
    cgroup_.make(pod + "/sandbox");
    watcher_.read_changes();
    EXPECT_EQ(testing::watches(watcher_.fd()), before + 4);
    cgroup_.remove(pod);
    watcher_.read_changes();
  }
  EXPECT_EQ(testing::watches(watcher_.fd()), before);
}

TEST_F(CgroupWatch, RootVanishesAndReappears) {
  ASSERT_TRUE(watcher_.start().ok());
  size_t before = testing::watches(watcher_.fd());
  for (int round = 0; round < 3; ++round) {
    cgroup_.make("kubepods/pod1/a");
    EXPECT_THAT(watcher_.read_changes(), UnorderedElementsAre("1"));
    testing::Process process;
    cgroup_.put(process.pid(), "kubepods/pod1/a");
    EXPECT_TRUE(is_told_of(watcher_, "1"));
    process.end();
    cgroup_.remove("kubepods");
    EXPECT_TRUE(is_told_of(watcher_, "1"));
    EXPECT_THAT(watcher_.folders("1"), IsEmpty());
    EXPECT_EQ(testing::watches(watcher_.fd()), before);
  }
}

}  // namespace
}  // namespace weir::interception
