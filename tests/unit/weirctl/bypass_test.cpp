// The brake in real maps, with no agent: needs root, and a BPF file system at /sys/fs/bpf.
#include "weirctl/bypass.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

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
    const weir_pod row = *maps_->pod(kCookie).value();
    EXPECT_EQ(row.flags, WEIR_POD_IPV6 | WEIR_POD_BYPASS);
    EXPECT_EQ(brakes(*maps_).value()["pods"].size(), 1u);
    EXPECT_EQ(set({.node = false, .pod = name, .service = {}}, false), "");
    EXPECT_EQ(maps_->pod(kCookie).value()->flags, WEIR_POD_IPV6);
  }
}

TEST_F(Bypass, OfAServiceByItsAddressKeepsTheRest) {
  EXPECT_EQ(set({.node = false, .pod = {}, .service = "10.96.0.10:50051"}, true), "");
  const auto rows = maps_->services();
  ASSERT_EQ(rows.value().size(), 1u);
  EXPECT_EQ(rows.value()[0].second.flags, WEIR_SERVICE_BYPASS);
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
}

}  // namespace
}  // namespace weir::weirctl
