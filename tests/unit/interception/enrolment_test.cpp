#include "interception/enrolment.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <iostream>
#include <thread>

#include "recorder.h"
#include "sandbox.h"

namespace weir::interception {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

using PodPointer = std::shared_ptr<const config::Pod>;

config::Pod a_pod(const std::string& uid) {
  config::Pod pod;
  pod.namespace_name = "default";
  pod.name = "pod-" + uid;
  pod.uid = uid;
  pod.dataplane = config::Dataplane::enabled;
  return pod;
}

PodPointer shared(config::Pod pod) { return std::make_shared<const config::Pod>(std::move(pod)); }

base::Instant now() { return base::MonotonicClock::now(); }

// Whether a client inside the process's namespace gets a connection.
bool can_connect(const testing::Process& process, const char* ip, uint16_t port) {
  auto netns = NetworkNamespace::open(process.netns().c_str());
  if (!netns) return false;
  sockaddr_storage raw{};
  socklen_t size = base::SocketAddress{*base::IpAddress::parse(ip), port}.to(raw);
  auto socket = netns->tcp_socket(raw.ss_family);
  if (!socket) return false;
  if (connect(socket->get(), reinterpret_cast<sockaddr*>(&raw), size) != 0 && errno != EINPROGRESS) return false;
  pollfd wait{socket->get(), POLLOUT, 0};
  if (poll(&wait, 1, 1000) != 1) return false;
  int error = 0;
  socklen_t length = sizeof error;
  return getsockopt(socket->get(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
}

class EnrolmentTest : public ::testing::Test {
 protected:
  void start(uint16_t first_port = 61000) {
    enrolment_.reset();
    EnrolmentOptions options;
    options.cgroup_roots = {cgroup_.path("kubepods")};
    options.generation = 7;
    options.first_port = first_port;
    enrolment_.emplace(options, recorder_.map(), recorder_);
    auto started = enrolment_->start();
    ASSERT_TRUE(started.ok()) << started.error().message;
  }
  void SetUp() override {
    // A thread's first visit to another namespace leaves it a descriptor of its own, which is not to be counted.
    ASSERT_TRUE(NetworkNamespace::open("/proc/self/ns/net").ok());
    start();
  }

  void want(std::vector<PodPointer> pods) { enrolment_->want(pods, now()); }
  void want(config::Pod pod) { want(std::vector{shared(std::move(pod))}); }

  // Serves the descriptor, and only it, until the condition holds.
  template <class Condition>
  bool serve_until(Condition condition, base::Duration limit = 3s) {
    base::Instant end = now() + limit;
    while (!condition() && now() < end) {
      pollfd wait{enrolment_->fd(), POLLIN, 0};
      if (poll(&wait, 1, 20) == 1) enrolment_->on_readable(now());
    }
    return condition();
  }
  bool serve_until_enrolled(const std::string& uid = "1") {
    return serve_until([&] { return recorder_.pods.contains(uid); });
  }
  bool serve_until_removed(const std::string& uid = "1") {
    return serve_until([&] { return !recorder_.pods.contains(uid); }, 1s);
  }
  void serve_for(base::Duration time) {
    serve_until([] { return false; }, time);
  }

  PodStatus status(const std::string& uid = "1") {
    for (const auto& status : enrolment_->status()) {
      if (status.pod->uid == uid) return status;
    }
    ADD_FAILURE() << "no status of " << uid;
    return {};
  }
  // A process in a container's folder of the pod.
  testing::Process run_in(const std::string& pod, const std::string& container = "sandbox") {
    std::string folder = "kubepods/burstable/pod" + pod + "/" + container;
    cgroup_.make(folder);
    testing::Process process;
    cgroup_.put(process.pid(), folder);
    return process;
  }
  testing::Process run_pod(const std::string& pod) {
    testing::Process process = run_in(pod);
    process.make_netns();
    return process;
  }

  testing::CgroupFolder cgroup_;
  testing::Recorder recorder_;
  std::optional<Enrolment> enrolment_;
};

TEST_F(EnrolmentTest, ListensInAPodThatStarts) {
  config::Pod pod = a_pod("1");
  pod.ips = {*base::IpAddress::parse("10.0.0.9")};
  pod.excluded_ports = {443};
  want(pod);
  EXPECT_EQ(status().state, PodState::waiting);
  EXPECT_THAT(status().reason, HasSubstr("cgroup"));

  testing::Process process = run_pod("1");
  ASSERT_TRUE(serve_until_enrolled());

  // The listeners are marked before anyone has them, and the row comes last.
  EXPECT_THAT(recorder_.log, ElementsAre("mark 7", "mark 7", "enrolled 1", "row"));
  const EnrolledPod& enrolled = recorder_.pods.at("1");
  EXPECT_GE(enrolled.port, 61000);
  EXPECT_TRUE(can_connect(process, "127.0.0.1", enrolled.port));
  EXPECT_TRUE(can_connect(process, "::1", enrolled.port));

  auto netns = NetworkNamespace::open(process.netns().c_str());
  ASSERT_THAT(recorder_.rows, SizeIs(1));
  ASSERT_EQ(recorder_.rows.begin()->first, netns->cookie());
  const weir_pod& row = recorder_.rows.begin()->second;
  EXPECT_EQ(row.generation, 7u);
  EXPECT_EQ(row.worker, 3u);
  EXPECT_EQ(row.heartbeat, 33u);
  EXPECT_EQ(ntohs(row.listener_port_be), enrolled.port);
  EXPECT_EQ(row.flags, WEIR_POD_REDIRECT | WEIR_POD_IPV6);
  EXPECT_THAT(row.pod_ip4, ElementsAre(10, 0, 0, 9));
  EXPECT_EQ(ntohs(row.excluded_ports_be[0]), 443);

  PodStatus now_enrolled = status();
  EXPECT_EQ(now_enrolled.state, PodState::enrolled);
  EXPECT_EQ(now_enrolled.netns_cookie, netns->cookie());
  EXPECT_EQ(now_enrolled.port, enrolled.port);
  EXPECT_EQ(now_enrolled.worker, 3u);
  EXPECT_EQ(now_enrolled.reason, "");
}

TEST_F(EnrolmentTest, ListensInAPodThatRunsAlready) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  want(a_pod("1"));
  ASSERT_THAT(recorder_.pods, SizeIs(1));
  EXPECT_TRUE(can_connect(process, "127.0.0.1", recorder_.pods.at("1").port));
}

TEST_F(EnrolmentTest, ListensInAPodThatRanBeforeTheAgent) {
  testing::Process process = run_pod("1");
  start();
  want(a_pod("1"));
  EXPECT_THAT(recorder_.pods, SizeIs(1));
}

TEST_F(EnrolmentTest, WantedBeforeTheStart) {
  testing::Process process = run_pod("1");
  EnrolmentOptions options;
  options.cgroup_roots = {cgroup_.path("kubepods")};
  enrolment_.emplace(options, recorder_.map(), recorder_);
  want(a_pod("1"));
  EXPECT_THAT(recorder_.pods, IsEmpty());
  ASSERT_TRUE(enrolment_->start().ok());
  EXPECT_THAT(recorder_.pods, SizeIs(1));
}

TEST_F(EnrolmentTest, GivesEverythingBackWhenTheProcessesEnd) {
  size_t descriptors = testing::open_descriptors();
  want(a_pod("1"));
  for (int round = 0; round < 3; ++round) {
    testing::Process process = run_pod("1");
    ASSERT_TRUE(serve_until_enrolled());
    process.end();
    EXPECT_TRUE(serve_until_removed());
    EXPECT_THAT(recorder_.rows, IsEmpty());
    // The row goes before the listeners do.
    ASSERT_GE(recorder_.log.size(), 2u);
    EXPECT_EQ(recorder_.log[recorder_.log.size() - 2], "no row");
    EXPECT_EQ(recorder_.log.back(), "removed 1");
    EXPECT_EQ(status().state, PodState::waiting);
  }
  EXPECT_EQ(testing::open_descriptors(), descriptors);
}

TEST_F(EnrolmentTest, GivesEverythingBackWhenTheCgroupGoes) {
  want(a_pod("1"));
  testing::Process process = run_pod("1");
  ASSERT_TRUE(serve_until_enrolled());
  size_t descriptors = testing::open_descriptors();
  cgroup_.remove("kubepods/burstable/pod1");
  EXPECT_TRUE(serve_until_removed());
  EXPECT_THAT(recorder_.rows, IsEmpty());
  EXPECT_EQ(testing::open_descriptors(), descriptors - 3);  // two listeners, one namespace
}

TEST_F(EnrolmentTest, GivesEverythingBackWhenNoLongerWanted) {
  testing::Process process = run_pod("1");
  size_t descriptors = testing::open_descriptors();
  serve_for(20ms);
  want(a_pod("1"));
  ASSERT_THAT(recorder_.pods, SizeIs(1));
  want(std::vector<PodPointer>{});
  EXPECT_THAT(recorder_.pods, IsEmpty());
  EXPECT_THAT(recorder_.rows, IsEmpty());
  EXPECT_THAT(enrolment_->status(), IsEmpty());
  EXPECT_EQ(testing::open_descriptors(), descriptors);
}

TEST_F(EnrolmentTest, WaitsForTheNamespaceOfAContainerThatIsBeingMade) {
  want(a_pod("1"));
  testing::Process process = run_in("1");
  serve_for(100ms);
  EXPECT_EQ(status().state, PodState::waiting);
  EXPECT_THAT(status().reason, HasSubstr("not entered"));
  process.make_netns();
  EXPECT_TRUE(serve_until_enrolled());
}

TEST_F(EnrolmentTest, RefusesTheNodesNamespace) {
  want(a_pod("1"));
  testing::Process process = run_in("1");
  serve_for(20ms);
  enrolment_->tick(now() + 6s);
  EXPECT_EQ(status().state, PodState::refused);
  EXPECT_THAT(status().reason, HasSubstr("hostNetwork"));
  EXPECT_THAT(recorder_.log, IsEmpty());
  // No negative is kept.
  process.make_netns();
  enrolment_->tick(now());
  EXPECT_EQ(status().state, PodState::enrolled);
}

TEST_F(EnrolmentTest, RefusesWhatTheConfigurationRefuses) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  config::Pod pod = a_pod("1");
  pod.refusal = "has an istio-proxy container";
  want(pod);
  EXPECT_EQ(status().state, PodState::refused);
  EXPECT_EQ(status().reason, pod.refusal);
  want(a_pod("1"));
  EXPECT_EQ(status().state, PodState::enrolled);
  want(pod);
  EXPECT_EQ(status().state, PodState::refused);
  EXPECT_THAT(recorder_.rows, IsEmpty());
  EXPECT_EQ(recorder_.log.back(), "removed 1");
}

TEST_F(EnrolmentTest, LeavesDisabledPodsAlone) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  config::Pod pod = a_pod("1");
  pod.dataplane = config::Dataplane::disabled;
  want(pod);
  EXPECT_EQ(status().state, PodState::disabled);
  EXPECT_THAT(recorder_.log, IsEmpty());
  want(a_pod("1"));
  EXPECT_EQ(status().state, PodState::enrolled);
  want(pod);
  EXPECT_EQ(status().state, PodState::disabled);
  EXPECT_THAT(recorder_.rows, IsEmpty());
}

TEST_F(EnrolmentTest, FollowsLabelsAndAddressesWhileEnrolled) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  config::Pod pod = a_pod("1");
  want(pod);
  recorder_.log.clear();
  pod.dataplane = config::Dataplane::observe;
  pod.fail_closed = true;
  pod.ips = {*base::IpAddress::parse("10.0.0.9")};
  PodPointer changed = shared(pod);
  want(std::vector{changed});
  EXPECT_THAT(recorder_.log, ElementsAre("row", "updated 1"));
  const weir_pod& row = recorder_.rows.begin()->second;
  EXPECT_EQ(row.flags, WEIR_POD_OBSERVE | WEIR_POD_FAIL_CLOSED | WEIR_POD_REDIRECT | WEIR_POD_IPV6);
  EXPECT_EQ(row.pod_ip4[3], 9);
  want(std::vector{changed});
  EXPECT_THAT(recorder_.log, SizeIs(2)) << "nothing changed";
}

TEST_F(EnrolmentTest, StaysWhenAProcessRestartsInTheSameNamespace) {
  want(a_pod("1"));
  testing::Process first = run_pod("1");
  ASSERT_TRUE(serve_until_enrolled());
  testing::Process second;
  second.enter_netns_of(first);
  first.end();
  serve_for(50ms);
  cgroup_.put(second.pid(), "kubepods/burstable/pod1/sandbox");
  serve_for(500ms);
  enrolment_->tick(now());
  EXPECT_THAT(recorder_.log, ElementsAre("mark 7", "mark 7", "enrolled 1", "row"));
}

TEST_F(EnrolmentTest, FollowsAPodToAnotherNamespace) {
  want(a_pod("1"));
  testing::Process first = run_pod("1");
  ASSERT_TRUE(serve_until_enrolled());
  uint64_t cookie = status().netns_cookie;
  testing::Process second = run_in("1", "sandbox2");
  second.make_netns();
  serve_for(50ms);
  EXPECT_EQ(status().netns_cookie, cookie) << "the first is still there";
  first.end();
  ASSERT_TRUE(serve_until([&] { return status().netns_cookie != cookie; }));
  ASSERT_TRUE(serve_until_enrolled());
  EXPECT_THAT(recorder_.rows, SizeIs(1));
  EXPECT_TRUE(can_connect(second, "127.0.0.1", recorder_.pods.at("1").port));
}

TEST_F(EnrolmentTest, ChoosesTheNamespaceThatHasThePodsAddress) {
  // A process that entered, or made, another namespace comes first in the folder.
  testing::Process other = run_in("1", "a");
  other.make_netns();
  testing::Process own = run_in("1", "b");
  own.make_netns();
  own.add_address("10.77.0.1");
  serve_for(20ms);
  config::Pod pod = a_pod("1");
  pod.ips = {*base::IpAddress::parse("10.77.0.1")};
  want(pod);
  EXPECT_EQ(status().netns_cookie, NetworkNamespace::open(own.netns().c_str())->cookie());
}

TEST_F(EnrolmentTest, ANamespaceIsOfOnePod) {
  testing::Process first = run_pod("1");
  testing::Process second = run_in("2");
  second.enter_netns_of(first);
  serve_for(20ms);
  PodPointer one = shared(a_pod("1")), two = shared(a_pod("2"));
  want(std::vector{one, two});
  EXPECT_EQ(status("1").state, PodState::enrolled);
  EXPECT_EQ(status("2").state, PodState::failed);
  EXPECT_THAT(status("2").reason, HasSubstr("default/pod-1"));
  want(std::vector{two});
  EXPECT_TRUE(serve_until_enrolled("2")) << "it is free now";
}

TEST_F(EnrolmentTest, PassesOverAPortThatThePodUses) {
  start(65534);
  testing::Process process = run_pod("1");
  auto netns = NetworkNamespace::open(process.netns().c_str());
  auto occupy = [&](uint16_t port) {
    auto socket = netns->tcp_socket(AF_INET);
    sockaddr_storage raw{};
    socklen_t size = base::SocketAddress{*base::IpAddress::parse("0.0.0.0"), port}.to(raw);
    EXPECT_EQ(bind(socket->get(), reinterpret_cast<sockaddr*>(&raw), size), 0);
    EXPECT_EQ(listen(socket->get(), 1), 0);
    return std::move(socket.value());
  };
  base::Fd one = occupy(65534);
  base::Fd two = occupy(65535);
  serve_for(20ms);
  want(a_pod("1"));
  EXPECT_EQ(status().state, PodState::failed);
  EXPECT_THAT(status().reason, HasSubstr("no free port"));
  two.reset();
  ASSERT_TRUE(serve_until_enrolled());
  EXPECT_EQ(status().port, 65535);
}

TEST_F(EnrolmentTest, WithoutIpv6) {
  want(a_pod("1"));
  testing::Process process = run_in("1");
  process.make_netns_without_ipv6();
  ASSERT_TRUE(serve_until_enrolled());
  EXPECT_FALSE(recorder_.pods.at("1").listener_v6);
  EXPECT_EQ(recorder_.rows.begin()->second.flags, WEIR_POD_REDIRECT);
}

TEST_F(EnrolmentTest, WaitsForTheLoopback) {
  want(a_pod("1"));
  testing::Process process = run_in("1");
  process.make_netns_with_loopback_down();
  serve_for(50ms);
  EXPECT_EQ(status().state, PodState::waiting);
  EXPECT_THAT(status().reason, HasSubstr("loopback"));
  process.raise_loopback();
  ASSERT_TRUE(serve_until_enrolled());
  EXPECT_TRUE(recorder_.pods.at("1").listener_v6);
}

TEST_F(EnrolmentTest, RetriesWithBackoff) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  recorder_.fail_mark = 3;
  recorder_.fail_set = 1;
  base::Instant began = now();
  want(a_pod("1"));
  EXPECT_EQ(status().state, PodState::failed);
  EXPECT_EQ(status().reason, "no storage");
  ASSERT_TRUE(serve_until([&] { return status().state == PodState::enrolled; }));
  // 50, 100, 200, 400 ms.
  EXPECT_GE(now() - began, 750ms);
  // The worker that had taken a pod without a row gave it back.
  EXPECT_THAT(recorder_.log,
              ElementsAre("mark 7", "mark 7", "enrolled 1", "removed 1", "mark 7", "mark 7", "enrolled 1", "row"));
}

TEST_F(EnrolmentTest, AttemptsAreFiveSecondsApartAtMost) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  recorder_.fail_mark = 1000;
  base::Instant time = now();
  enrolment_->want(std::vector{shared(a_pod("1"))}, time);
  int before = 0;
  for (int i = 0; i < 60; ++i) {
    before = recorder_.fail_mark;
    enrolment_->tick(time += 1s);
  }
  for (int i = 0; i < 5; ++i) enrolment_->tick(time += 1s);
  EXPECT_EQ(recorder_.fail_mark, before - 1);
}

TEST_F(EnrolmentTest, UidsThatCannotBeUsed) {
  config::Pod none = a_pod("");
  config::Pod first = a_pod("1");
  config::Pod second = a_pod("1");
  second.name = "same-uid";
  want(std::vector{shared(none), shared(first), shared(second)});
  std::map<std::string, PodStatus> by_name;
  for (const auto& status : enrolment_->status()) by_name[status.pod->name] = status;
  ASSERT_THAT(by_name, SizeIs(3));
  EXPECT_EQ(by_name["pod-"].state, PodState::failed);
  EXPECT_THAT(by_name["pod-"].reason, HasSubstr("no metadata.uid"));
  EXPECT_EQ(by_name["pod-1"].state, PodState::waiting);
  EXPECT_EQ(by_name["same-uid"].state, PodState::failed);
  EXPECT_THAT(by_name["same-uid"].reason, HasSubstr("default/pod-1"));
}

TEST_F(EnrolmentTest, StaticPodsAreFoundByTheirHash) {
  testing::Process process = run_pod("6e3c1f0f");
  serve_for(20ms);
  config::Pod pod = a_pod("1");
  pod.annotations["kubernetes.io/config.hash"] = "6e3c1f0f";
  want(pod);
  EXPECT_EQ(status().state, PodState::enrolled);
}

TEST_F(EnrolmentTest, WithdrawsItsOwnRows) {
  testing::Process one = run_pod("1"), two = run_pod("2");
  serve_for(20ms);
  PodPointer first = shared(a_pod("1")), second = shared(a_pod("2"));
  want(std::vector{first, second});
  ASSERT_THAT(recorder_.rows, SizeIs(2));
  recorder_.rows.at(status("2").netns_cookie).generation = 8;  // another agent took it over
  enrolment_->withdraw();
  ASSERT_THAT(recorder_.rows, SizeIs(1));
  EXPECT_EQ(recorder_.rows.begin()->first, status("2").netns_cookie);
  EXPECT_THAT(recorder_.pods, SizeIs(2)) << "what is open stays open";

  testing::Process three = run_pod("3");
  want(std::vector{first, second, shared(a_pod("3"))});
  serve_for(50ms);
  enrolment_->tick(now());
  EXPECT_THAT(recorder_.rows, SizeIs(1)) << "nothing is diverted here any more";
  EXPECT_THAT(recorder_.pods, SizeIs(2));
  want(std::vector{second});
  EXPECT_THAT(recorder_.pods, SizeIs(1));
}

TEST_F(EnrolmentTest, TakesOverAndIsTakenOver) {
  testing::Process process = run_pod("1");
  uint64_t cookie = NetworkNamespace::open(process.netns().c_str())->cookie();
  recorder_.rows[cookie].generation = 6;
  serve_for(20ms);
  want(a_pod("1"));
  EXPECT_EQ(recorder_.rows.at(cookie).generation, 7u);
  recorder_.rows.at(cookie).generation = 8;
  config::Pod changed = a_pod("1");
  changed.dataplane = config::Dataplane::observe;
  want(changed);
  enrolment_->tick(now());
  EXPECT_EQ(recorder_.rows.at(cookie).flags, WEIR_POD_REDIRECT | WEIR_POD_IPV6);
  want(std::vector<PodPointer>{});
  ASSERT_THAT(recorder_.rows, SizeIs(1));
  EXPECT_EQ(recorder_.rows.at(cookie).generation, 8u);
}

TEST_F(EnrolmentTest, RestoresALostRow) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  want(a_pod("1"));
  recorder_.rows.clear();
  enrolment_->tick(now());
  EXPECT_THAT(recorder_.rows, SizeIs(1));
}

TEST_F(EnrolmentTest, WritesAgainARowThatCouldNotBeWritten) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  want(a_pod("1"));
  config::Pod changed = a_pod("1");
  changed.dataplane = config::Dataplane::observe;
  recorder_.fail_set = 1;
  want(changed);
  EXPECT_EQ(recorder_.rows.begin()->second.flags, WEIR_POD_REDIRECT | WEIR_POD_IPV6);
  enrolment_->tick(now());
  EXPECT_EQ(recorder_.rows.begin()->second.flags, WEIR_POD_REDIRECT | WEIR_POD_IPV6 | WEIR_POD_OBSERVE);
}

TEST_F(EnrolmentTest, SweepsRowsOfAgentsThatAreGone) {
  testing::Process process = run_pod("1");
  serve_for(20ms);
  recorder_.rows[1].generation = 6;
  want(a_pod("1"));
  ASSERT_TRUE(enrolment_->sweep().ok());
  ASSERT_THAT(recorder_.rows, SizeIs(1));
  EXPECT_EQ(recorder_.rows.begin()->first, status().netns_cookie);
}

// A tree of plain folders with a /proc of our own: what a v1 hierarchy tells, and races that are hard to meet.
class PlainTree : public EnrolmentTest {
 protected:
  void SetUp() override {
    folder_.make("proc");
    folder_.make("kubepods");
    EnrolmentOptions options;
    options.cgroup_roots = {folder_.path("kubepods")};
    options.proc = folder_.path("proc");
    enrolment_.emplace(options, recorder_.map(), recorder_);
    ASSERT_TRUE(enrolment_->start().ok());
    folder_.make("kubepods/burstable/pod1/a");
  }
  void show(const std::string& process, const testing::Process& real) {
    folder_.make("proc/" + process + "/ns");
    folder_.link("proc/" + process + "/ns/net", real.netns());
  }
  void processes(const std::string& list) { folder_.write("kubepods/burstable/pod1/a/cgroup.procs", list); }
  testing::TemporaryFolder folder_{"/dev/shm"};
};

TEST_F(PlainTree, ProcessesAreFoundWithoutBeingTold) {
  want(a_pod("1"));
  serve_for(30ms);
  EXPECT_THAT(status().reason, HasSubstr("started"));
  testing::Process process;
  process.make_netns();
  show("77", process);
  processes("77\n");
  ASSERT_TRUE(serve_until_enrolled());
  // A removed process shows at the next tick, then the grace passes.
  processes("");
  process.end();
  enrolment_->tick(now());
  EXPECT_TRUE(serve_until_removed());
}

TEST_F(PlainTree, AProcessThatVanishesIsTriedAgain) {
  processes("77\n");
  want(a_pod("1"));
  serve_for(30ms);
  EXPECT_EQ(status().state, PodState::waiting);
  testing::Process process;
  process.make_netns();
  show("78", process);
  processes("77\n78\n");
  EXPECT_TRUE(serve_until_enrolled());
}

TEST_F(PlainTree, ProcessesOfAnotherPidNamespace) {
  processes("0\n0\n");
  want(a_pod("1"));
  serve_for(30ms);
  EXPECT_EQ(status().state, PodState::failed);
  EXPECT_THAT(status().reason, HasSubstr("hostPID"));
}

TEST_F(PlainTree, GarbageInsteadOfProcesses) {
  processes("not a number\n-1\n99999999999999999999\n");
  want(a_pod("1"));
  serve_for(30ms);
  EXPECT_EQ(status().state, PodState::waiting);
}

// A hundred pods come and go as fast as this machine makes them, while the control thread follows. A pod's life is as
// a runtime makes it: folder, container's folder, process put into it, then its network namespace.
TEST_F(EnrolmentTest, MissesNoneOfAHundredPods) {
  constexpr int kPods = 100;
  size_t descriptors = testing::open_descriptors();
  std::vector<PodPointer> pods;
  for (int i = 0; i < kPods; ++i) pods.push_back(shared(a_pod(std::to_string(i))));
  want(pods);

  std::vector<base::Instant> ready(kPods);
  std::deque<testing::Process> processes;
  std::atomic<bool> end = false;
  std::thread runtime([&] {
    for (int i = 0; i < kPods; ++i) {
      testing::Process& process = processes.emplace_back(run_in(std::to_string(i)));
      ready[static_cast<size_t>(i)] = process.make_netns();
    }
    while (!end) std::this_thread::sleep_for(1ms);
    for (int i = 0; i < kPods; ++i) {
      processes[static_cast<size_t>(i)].end();
      cgroup_.remove("kubepods/burstable/pod" + std::to_string(i));
    }
  });
  EXPECT_TRUE(serve_until([&] { return recorder_.enrolled_at.size() == kPods; }, 30s));
  end = true;
  EXPECT_TRUE(serve_until([&] { return recorder_.pods.empty(); }, 30s));
  runtime.join();
  EXPECT_THAT(recorder_.rows, IsEmpty());
  serve_for(50ms);
  EXPECT_LE(testing::open_descriptors(), descriptors);

  std::vector<double> latency;
  for (const auto& [uid, at] : recorder_.enrolled_at) {
    latency.push_back(std::chrono::duration<double, std::milli>(at - ready[std::stoul(uid)]).count());
  }
  std::sort(latency.begin(), latency.end());
  ASSERT_THAT(latency, SizeIs(kPods));
  std::cout << "from a finished namespace to its listeners: median " << latency[50] << " ms, 90 % " << latency[90]
            << " ms, worst " << latency[99] << " ms\n";
  EXPECT_LT(latency[50], 20);
  EXPECT_LT(latency[99], 500);
}

}  // namespace
}  // namespace weir::interception
