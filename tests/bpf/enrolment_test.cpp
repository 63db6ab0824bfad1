// Enrolment over the real maps: from a pod's cgroup folder to a connection that
// arrives at the listener inside the pod, and back to the plain way.
#include "interception/enrolment.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "diversion.h"

namespace weir::bpf_test {
namespace {

struct Owner : interception::EnrolmentEvents {
  interception::PodWorker enrolled(interception::EnrolledPod pod) override {
    pods.insert_or_assign(pod.pod->uid, std::move(pod));
    return {0, kHeartbeat};
  }
  void updated(std::shared_ptr<const config::Pod>) override {}
  void removed(const std::string& uid) override { pods.erase(uid); }
  std::map<std::string, interception::EnrolledPod> pods;
};

class Enrolled : public testing::Test {
 protected:
  Enrolled() {
    std::string folder = installed().node.pods_cgroup();
    std::ifstream procs(folder + "/cgroup.procs");
    pid_t process = 0;
    procs >> process;
    for (const char* below : {"/besteffort", "/pod1", "/sandbox"}) {
      folder += below;
      mkdir(folder.c_str(), 0755);
      folders_.push_back(folder);
    }
    Node::join(folder, process);
    EXPECT_TRUE(maps_.set_service(kService, {WEIR_MODE_L7, 0, kGeneration}).ok());
    beat(maps_);
    EXPECT_TRUE(enrolment_.start().ok());
  }
  ~Enrolled() override {
    want(config::Dataplane::disabled);
    EXPECT_TRUE(maps_.pods().value().empty());
    EXPECT_TRUE(maps_.remove_service(kService).ok());
    pod_.reset();
    for (auto folder = folders_.rbegin(); folder != folders_.rend(); ++folder) rmdir(folder->c_str());
  }

  void want(config::Dataplane dataplane) {
    config::Pod pod;
    pod.uid = "1";
    pod.dataplane = dataplane;
    std::vector pods = {std::make_shared<const config::Pod>(pod)};
    enrolment_.want(pods, base::MonotonicClock::now());
  }
  Where where_a_connection_goes() {
    base::Fd client = pod_->socket(AF_INET);
    EXPECT_EQ(dial(client, kService), 0);
    auto enrolled = owner_.pods.find("1");
    Arrival arrival = enrolled == owner_.pods.end() ? accept_one({}, {&plain_})
                                                    : accept_one({&enrolled->second.listener_v4}, {&plain_});
    return arrival.where;
  }

  const base::SocketAddress kService = address(kServiceIp4, kServicePort);
  interception::Maps& maps_ = installed().programs.maps();
  std::optional<Pod> pod_{std::in_place, installed().node};
  base::Fd plain_ = pod_->listen(kService);
  std::vector<std::string> folders_;
  Owner owner_;
  interception::Enrolment enrolment_{
      {.cgroup_roots = {installed().node.pods_cgroup()}, .generation = kGeneration}, maps_, owner_};
};

TEST_F(Enrolled, PodIsDiverted) {
  EXPECT_EQ(where_a_connection_goes(), Where::plain);
  want(config::Dataplane::enabled);
  ASSERT_EQ(owner_.pods.size(), 1u);
  EXPECT_EQ(where_a_connection_goes(), Where::agent);
  want(config::Dataplane::observe);
  EXPECT_EQ(where_a_connection_goes(), Where::plain);
  want(config::Dataplane::enabled);
  EXPECT_EQ(where_a_connection_goes(), Where::agent);
}

TEST_F(Enrolled, PodIsNotDivertedOnceWithdrawn) {
  want(config::Dataplane::enabled);
  enrolment_.withdraw();
  ASSERT_EQ(owner_.pods.size(), 1u);
  EXPECT_EQ(where_a_connection_goes(), Where::plain);
}

TEST_F(Enrolled, AnOperatorsBrakeGoesWithThePodButNotWithTheAgent) {
  const uint64_t cookie = pod_->netns().cookie();
  want(config::Dataplane::enabled);
  ASSERT_TRUE(maps_.set_brake(cookie, true).ok());
  want(config::Dataplane::observe);
  EXPECT_TRUE(maps_.brake(cookie).value());
  want(config::Dataplane::disabled);
  EXPECT_FALSE(maps_.brake(cookie).value());

  want(config::Dataplane::enabled);
  ASSERT_TRUE(maps_.set_brake(cookie, true).ok());
  enrolment_.withdraw();
  EXPECT_TRUE(maps_.brake(cookie).value());
  ASSERT_TRUE(maps_.set_brake(cookie, false).ok());
}

TEST_F(Enrolled, PodTakesThePlainWayWhenItsListenersAreGone) {
  want(config::Dataplane::enabled);
  owner_.pods.clear();  // as if the agent had died
  EXPECT_EQ(where_a_connection_goes(), Where::plain);
}

}  // namespace
}  // namespace weir::bpf_test
