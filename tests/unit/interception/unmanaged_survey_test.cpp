// When which pod is looked at, what that may cost, and what is known afterwards.
#include "interception/unmanaged_survey.h"

#include <gmock/gmock.h>

#include <thread>

#include "unmanaged_fixture.h"

namespace weir::interception {
namespace {

using base::Duration;
using base::Instant;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::kAgentCgroup;
using testing::socket_to;

class UnmanagedSurveyTest : public ::testing::Test {
 protected:
  // A list in as many steps as there are sockets, and one more.
  OpenListing listing() {
    return [this](const NetworkNamespace& netns) -> base::Result<SocketListing> {
      opened.push_back(netns.cookie());
      if (fail_open) return base::Error{"no socket"};
      return SocketListing([this, place = size_t{0}](const auto& found) mutable -> base::Result<NetlinkEnd> {
        std::this_thread::sleep_for(step_waits);
        for (const Duration begun = base::thread_cpu_time(); base::thread_cpu_time() - begun < step_takes;) {
        }
        if (fail_step) return base::Error{"no answer"};
        if (place == sockets.size()) return NetlinkEnd::last;
        found(sockets[place++]);
        return NetlinkEnd::more;
      });
    };
  }

  void add_pod(const char* name) {
    // Each pod has this process's namespace: only its cookie is asked for, and that differs by the status.
    PodStatus& status = pods.emplace_back();
    auto pod = std::make_shared<config::Pod>();
    pod->namespace_name = "default";
    pod->name = name;
    status.pod = pod;
    status.state = PodState::enrolled;
    status.netns_cookie = pods.size();
    auto netns = NetworkNamespace::open("/proc/self/ns/net");
    ASSERT_TRUE(netns.ok()) << netns.error().message;
    status.netns = std::make_shared<const NetworkNamespace>(std::move(*netns));
    world.pods[status.netns_cookie].flags = WEIR_POD_IPV6;
  }

  void follow() { survey.follow(pods, world.snapshot, now); }

  // Steps until nothing is due before `until`; how many.
  int run(Duration until = seconds(1)) {
    const Instant end = now + until;
    int steps = 0;
    while (const auto due = survey.due()) {
      if (*due > end) break;
      now = std::max(now, *due);
      survey.step(now);
      ++steps;
    }
    now = end;
    return steps;
  }

  std::vector<std::string> counted() const {
    std::vector<std::string> out;
    for (const UnmanagedCount& count : survey.counts())
      out.push_back(count.pod->name + " " + count.service->name + " " + std::to_string(count.connections));
    return out;
  }

  testing::UnmanagedWorld world;
  std::vector<PodStatus> pods;
  std::vector<TcpSocket> sockets;
  std::vector<uint64_t> opened;
  bool fail_open = false, fail_step = false;
  Duration step_takes{0}, step_waits{0};  // of CPU, and for it
  Instant now{seconds(1000)};
  UnmanagedSurvey survey{world.rows(), kAgentCgroup, listing()};
};

TEST_F(UnmanagedSurveyTest, CountsByPodAndService) {
  add_pod("a");
  add_pod("b");
  for (const char* remote : {"10.96.0.10", "10.96.0.10", "10.96.0.11", "10.244.0.9"})
    sockets.push_back(socket_to(remote));
  follow();
  run();
  EXPECT_THAT(counted(), ElementsAre("a greeter 2", "a other 1", "b greeter 2", "b other 1"));
  survey.fill_in(pods);
  EXPECT_EQ(pods[0].unmanaged_connections, 3u);
  EXPECT_EQ(survey.failures(), 0u);
}

TEST_F(UnmanagedSurveyTest, NoPodsNothingToDo) {
  follow();
  EXPECT_EQ(survey.due(), std::nullopt);
  EXPECT_FALSE(survey.step(now));
  add_pod("a");
  pods[0].state = PodState::waiting;
  follow();
  EXPECT_EQ(survey.due(), std::nullopt);
}

TEST_F(UnmanagedSurveyTest, PodsWithUnmanagedConnectionsAreLookedAtMoreOften) {
  add_pod("a");
  follow();
  run();
  ASSERT_EQ(opened.size(), 1u);
  run(UnmanagedSurvey::kCalm - seconds(2));
  EXPECT_EQ(opened.size(), 1u);
  sockets = {socket_to("10.96.0.10")};
  run(seconds(3));
  ASSERT_EQ(opened.size(), 2u);
  EXPECT_THAT(counted(), ElementsAre("a greeter 1"));
  sockets.clear();
  run(UnmanagedSurvey::kAgain);
  EXPECT_EQ(opened.size(), 3u);
  EXPECT_THAT(counted(), IsEmpty());
}

TEST_F(UnmanagedSurveyTest, ANewPodDoesNotWait) {
  add_pod("a");
  follow();
  run();
  add_pod("b");
  sockets = {socket_to("10.96.0.10")};
  follow();
  run();
  EXPECT_EQ(opened.size(), 2u);
  EXPECT_THAT(counted(), ElementsAre("b greeter 1"));
}

TEST_F(UnmanagedSurveyTest, APodThatGoesIsForgotten) {
  sockets = {socket_to("10.96.0.10"), socket_to("10.96.0.10")};
  add_pod("a");
  follow();
  survey.step(now);  // its list is under way
  std::weak_ptr<const NetworkNamespace> netns = pods[0].netns;
  pods.clear();
  follow();
  EXPECT_EQ(survey.due(), std::nullopt);
  EXPECT_THAT(counted(), IsEmpty());
  EXPECT_TRUE(netns.expired());
}

TEST_F(UnmanagedSurveyTest, ABrakeMakesAllOfThemPlainByIntention) {
  sockets = {socket_to("10.96.0.10")};
  add_pod("a");
  follow();
  run();
  EXPECT_THAT(counted(), ElementsAre("a greeter 1"));
  world.config.flags = WEIR_CONFIG_BYPASS;
  run(UnmanagedSurvey::kAgain);
  EXPECT_THAT(counted(), IsEmpty());
  EXPECT_EQ(opened.size(), 1u);  // there is nothing to be asked for
}

TEST_F(UnmanagedSurveyTest, FailuresAreCountedAndTriedAgain) {
  sockets = {socket_to("10.96.0.10")};
  add_pod("a");
  follow();
  run();
  fail_step = true;
  run(UnmanagedSurvey::kAgain);
  EXPECT_EQ(survey.failures(), 1u);
  EXPECT_THAT(counted(), ElementsAre("a greeter 1"));  // what is known stays
  fail_step = false;
  fail_open = true;
  run(UnmanagedSurvey::kCalm);
  EXPECT_EQ(survey.failures(), 2u);
  fail_open = false;
  world.fail = true;
  run(UnmanagedSurvey::kCalm);
  EXPECT_EQ(survey.failures(), 3u);
  world.fail = false;
  sockets.clear();
  run(UnmanagedSurvey::kCalm);
  EXPECT_EQ(survey.failures(), 3u);
  EXPECT_THAT(counted(), IsEmpty());
}

// On a machine with much to do.
TEST_F(UnmanagedSurveyTest, WhatAStepWaitsIsNotWhatItTakes) {
  sockets = {socket_to("10.96.0.10")};
  step_waits = milliseconds(20);
  add_pod("a");
  follow();
  ASSERT_FALSE(survey.step(now));
  for (now = *survey.due(); !survey.step(now); now = *survey.due())
    EXPECT_LE(*survey.due() - now, UnmanagedSurvey::kPart * step_waits / 2);
  EXPECT_THAT(counted(), ElementsAre("a greeter 1"));
}

TEST_F(UnmanagedSurveyTest, TakesAHundredthOfTheTime) {
  for (int i = 0; i < 4; ++i) sockets.push_back(socket_to("10.96.0.10"));
  step_takes = milliseconds(2);
  add_pod("a");
  add_pod("b");
  follow();
  int long_steps = 0;
  for (const Instant start = now; now < start + seconds(1);) {
    ASSERT_TRUE(survey.due().has_value());
    now = std::max(now, *survey.due());
    const size_t lists = opened.size();
    survey.step(now);
    if (opened.size() != lists) continue;  // opening takes no time here
    ++long_steps;
    EXPECT_GE(*survey.due() - now, UnmanagedSurvey::kPart * step_takes);
  }
  EXPECT_GE(long_steps, 3);
  EXPECT_LE(long_steps, 6);
}

}  // namespace
}  // namespace weir::interception
