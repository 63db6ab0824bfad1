// The brake in real maps, with no agent: needs root, and a BPF file system at /sys/fs/bpf.
#include "weirctl/bypass.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "interception/programs.h"

namespace weir::weirctl {
namespace {

using testing::HasSubstr;

class Bypass : public testing::Test {
 protected:
  Bypass() : folder_("/sys/fs/bpf/weir-unit-" + std::to_string(::getpid())) {
    settings_.bpf_dir = folder_;
    settings_.run_dir = "/nonexistent";
  }
  ~Bypass() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  void SetUp() override {
    interception::ProgramOptions options;
    options.bpf_dir = folder_;
    auto programs = interception::Programs::load(options);
    ASSERT_TRUE(programs.ok()) << programs.error().message;
    weir_service service{};
    service.mode = WEIR_MODE_L7;
    service.generation = 3;
    weir_pod pod{};
    pod.pod_ip4[0] = 10;
    pod.pod_ip4[3] = 5;
    pod.flags = WEIR_POD_IPV6;
    ASSERT_TRUE(programs->maps().set_service(greeter_, service).ok());
    ASSERT_TRUE(programs->maps().set_pod(kCookie, pod).ok());
    maps_.emplace(interception::Maps::open(folder_).value());
  }
  std::string set(const BrakeTarget& target, bool on) {
    const auto done = set_brake(*maps_, settings_, target, on);
    return done.ok() ? std::string() : done.error().message;
  }

  static constexpr uint64_t kCookie = 4242;
  static constexpr auto kRace = std::chrono::milliseconds(200);
  static inline const BrakeTarget kPod{.node = false, .pod = "4242", .service = {}};
  static inline const BrakeTarget kService{.node = false, .pod = {}, .service = "10.96.0.10:50051"};
  const base::SocketAddress greeter_{*base::IpAddress::parse("10.96.0.10"), 50051};
  const std::string folder_;
  Settings settings_;
  std::optional<interception::Maps> maps_;
};

TEST_F(Bypass, OfTheNode) {
  EXPECT_EQ(set({.node = true, .pod = {}, .service = {}}, true), "");
  EXPECT_EQ(brakes(*maps_).value()["node"], true);
  EXPECT_EQ(set({.node = true, .pod = {}, .service = {}}, false), "");
  EXPECT_EQ(brakes(*maps_).value()["node"], false);
}

TEST_F(Bypass, OfAPodByItsIpOrCookieKeepsTheRest) {
  for (const char* name : {"10.0.0.5", "4242"}) {
    EXPECT_EQ(set({.node = false, .pod = name, .service = {}}, true), "");
    EXPECT_EQ(maps_->config()->flags, WEIR_CONFIG_BRAKES);
    ASSERT_EQ(brakes(*maps_).value()["pods"].size(), 1u);
    EXPECT_EQ(brakes(*maps_).value()["pods"][0]["netns_cookie"], kCookie);
    EXPECT_EQ(brakes(*maps_).value()["pods"][0]["ips"][0], "10.0.0.5");
    EXPECT_EQ(set({.node = false, .pod = name, .service = {}}, false), "");
    EXPECT_EQ(maps_->pod(kCookie).value()->flags, WEIR_POD_IPV6);
    EXPECT_TRUE(brakes(*maps_).value()["pods"].empty());
    EXPECT_EQ(maps_->config()->flags, 0u) << "the hook need not look any more";
  }
}

TEST_F(Bypass, OfAServiceByItsAddressKeepsTheRest) {
  EXPECT_EQ(set({.node = false, .pod = {}, .service = "10.96.0.10:50051"}, true), "");
  ASSERT_EQ(brakes(*maps_).value()["services"].size(), 1u);
  EXPECT_EQ(brakes(*maps_).value()["services"][0]["address"], "10.96.0.10:50051");
  const auto rows = maps_->services();
  ASSERT_EQ(rows.value().size(), 1u);
  EXPECT_EQ(rows.value()[0].second.mode, uint32_t{WEIR_MODE_L7});
  EXPECT_EQ(rows.value()[0].second.generation, 3u);
  EXPECT_EQ(set({.node = false, .pod = {}, .service = "10.96.0.10:50051"}, false), "");
  EXPECT_TRUE(brakes(*maps_).value()["services"].empty());
}

TEST_F(Bypass, SaysWhatToDoWithoutAnAgent) {
  EXPECT_THAT(set({.node = false, .pod = "client", .service = {}}, true), HasSubstr("by its IP or netns cookie"));
  EXPECT_THAT(set({.node = false, .pod = {}, .service = "greeter:50051"}, true), HasSubstr("by its ClusterIP"));
  EXPECT_THAT(set({.node = false, .pod = {}, .service = "greeter"}, true), HasSubstr("is not SERVICE:PORT"));
  EXPECT_THAT(set({.node = false, .pod = {}, .service = "10.96.0.11:50051"}, true), HasSubstr("not diverted anyway"));
  EXPECT_THAT(set({.node = false, .pod = {}, .service = "10.96.0.10:80"}, true), HasSubstr("not diverted anyway"));
  EXPECT_THAT(set({.node = false, .pod = {}, .service = "10.96.0.10:80"}, false), HasSubstr("not diverted anyway"));
  EXPECT_TRUE(maps_->brakes()->services.empty());
  EXPECT_EQ(maps_->config()->flags, 0u);
}

TEST_F(Bypass, OfAPodOutlastsItsRowWhileThereIsNoAgent) {
  EXPECT_EQ(set(kPod, true), "");
  ASSERT_TRUE(maps_->withdraw_pod(kCookie).ok());
  ASSERT_EQ(brakes(*maps_).value()["pods"].size(), 1u);
  EXPECT_EQ(brakes(*maps_).value()["pods"][0]["netns_cookie"], kCookie);
  EXPECT_EQ(set(kPod, true), "");
  EXPECT_EQ(set(kPod, false), "");
  EXPECT_TRUE(brakes(*maps_).value()["pods"].empty());
}

TEST_F(Bypass, GoesWithTheRowThatItIsAbout) {
  EXPECT_EQ(set(kPod, true), "");
  EXPECT_EQ(set(kService, true), "");
  ASSERT_TRUE(maps_->remove_pod(kCookie).ok());
  ASSERT_TRUE(maps_->remove_service(greeter_).ok());
  EXPECT_TRUE(maps_->brakes()->pods.empty());
  EXPECT_TRUE(maps_->brakes()->services.empty());
}

// Rows that an agent has removed, or taken over, while a brake was being set came back as they had been.
TEST_F(Bypass, WritesNoRowThatAnAgentWritesMeanwhile) {
  std::atomic<bool> ended = false;
  uint64_t turns = 0, lost = 0;
  std::thread agent([&] {
    interception::Maps maps = interception::Maps::open(folder_).value();
    for (uint64_t generation = 10; !ended; ++generation, ++turns) {
      weir_pod pod{};
      pod.generation = generation;
      if (!maps.set_pod(kCookie, pod).ok() || !maps.set_service(greeter_, {WEIR_MODE_L7, 0, generation}).ok()) ++lost;
      std::this_thread::yield();
      const auto service = maps.service(greeter_).value();
      lost += !service || service->generation != generation || maps.pod(kCookie).value()->generation != generation;
      if (!maps.remove_service(greeter_).ok() || !maps.remove_pod(kCookie).ok()) ++lost;
      std::this_thread::yield();
      lost += maps.service(greeter_).value().has_value() || maps.pod(kCookie).value().has_value();
    }
  });
  for (const auto end = std::chrono::steady_clock::now() + kRace; std::chrono::steady_clock::now() < end;)
    for (const bool on : {true, false})
      for (const BrakeTarget& target : {kPod, kService}) set(target, on);
  ended = true;
  agent.join();
  EXPECT_GT(turns, 10u);
  EXPECT_EQ(lost, 0u) << "of " << turns;
  EXPECT_TRUE(maps_->services()->empty());
  EXPECT_TRUE(maps_->pods()->empty());
}

// What an agent writes into rows meanwhile took off a brake that was said to be on.
TEST_F(Bypass, StaysWhateverAnAgentWritesMeanwhile) {
  std::atomic<bool> ended = false;
  std::thread agent([&] {
    interception::Maps maps = interception::Maps::open(folder_).value();
    for (uint64_t generation = 10; !ended; ++generation) {
      weir_pod pod{};
      pod.generation = generation;
      EXPECT_TRUE(maps.set_pod(kCookie, pod).ok());
      EXPECT_TRUE(maps.set_service(greeter_, {WEIR_MODE_L7, 0, generation}).ok());
    }
  });
  for (const auto end = std::chrono::steady_clock::now() + kRace; std::chrono::steady_clock::now() < end;) {
    for (const bool on : {true, false}) {
      for (const BrakeTarget& target : {kPod, kService}) EXPECT_EQ(set(target, on), "");
      std::this_thread::yield();
      EXPECT_EQ(maps_->brake(kCookie).value(), on);
      EXPECT_EQ(maps_->brake(greeter_).value(), on);
      EXPECT_EQ(maps_->config()->flags, on ? WEIR_CONFIG_BRAKES : 0u);
    }
  }
  ended = true;
  agent.join();
}

TEST_F(Bypass, OfTwoWeirctlsAtOnce) {
  std::atomic<bool> ended = false;
  std::thread other([&] {
    interception::Maps maps = interception::Maps::open(folder_).value();
    for (bool on = true; !ended || !on; on = !on) EXPECT_TRUE(set_brake(maps, settings_, kService, on).ok());
  });
  const BrakeTarget node{.node = true, .pod = {}, .service = {}};
  for (const auto end = std::chrono::steady_clock::now() + kRace; std::chrono::steady_clock::now() < end;) {
    for (const bool on : {false, true}) {
      EXPECT_EQ(set(node, on), "");
      EXPECT_EQ(set(kPod, on), "");
      const uint32_t flags = maps_->config()->flags;
      EXPECT_EQ((flags & WEIR_CONFIG_BYPASS) != 0, on);
      EXPECT_TRUE(!on || flags & WEIR_CONFIG_BRAKES);
    }
  }
  ended = true;
  other.join();
  EXPECT_EQ(maps_->config()->flags, WEIR_CONFIG_BYPASS | WEIR_CONFIG_BRAKES);
  EXPECT_FALSE(maps_->brake(greeter_).value()) << "off was its last word";
}

}  // namespace
}  // namespace weir::weirctl
