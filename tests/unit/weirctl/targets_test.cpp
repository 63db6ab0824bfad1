// Services by name and by address, a headless one among them. The commands need root, and a BPF file system at
// /sys/fs/bpf.
#include "weirctl/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "interception/programs.h"
#include "weir/admin_api.h"
#include "weirctl/bypass.h"
#include "weirctl/commands.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const json kServices = json::parse(R"([
  {"namespace": "default", "name": "greeter", "vips": ["10.96.0.10", "fd00::10"], "by_endpoint": false,
   "ports": [{"port": 50051, "protocol": "grpc"}, {"port": 80, "protocol": "unknown"}]},
  {"namespace": "default", "name": "headless", "vips": [], "by_endpoint": true,
   "ports": [{"port": 50051, "protocol": "grpc", "endpoint_addresses": ["10.0.0.1:7000", "[fd00::1]:7000"]},
             {"port": 81, "protocol": "unknown", "endpoint_addresses": []}]},
  {"namespace": "default", "name": "plain", "vips": [], "by_endpoint": false,
   "ports": [{"port": 50051, "protocol": "grpc"}]}])");

base::SocketAddress at(const char* ip, uint16_t port) { return {*base::IpAddress::parse(ip), port}; }

TEST(Targets, AServiceIsDialledAtItsClusterIpsOrItsEndpoints) {
  EXPECT_THAT(addresses_of(kServices[0], 80), ElementsAre(at("10.96.0.10", 80), at("fd00::10", 80)));
  EXPECT_THAT(addresses_of(kServices[0], 81), IsEmpty());
  EXPECT_THAT(addresses_of(kServices[1], 50051), ElementsAre(at("10.0.0.1", 7000), at("fd00::1", 7000)));
  EXPECT_THAT(addresses_of(kServices[1], 7000), IsEmpty());
  EXPECT_THAT(addresses_of(kServices[2], 50051), IsEmpty());
}

TEST(Targets, AddressesAreServices) {
  const auto names = service_names(kServices);
  EXPECT_EQ(names.size(), 6u);
  EXPECT_EQ(names.at("10.96.0.10:50051"), "default/greeter");
  EXPECT_EQ(names.at("[fd00::10]:80"), "default/greeter");
  EXPECT_EQ(names.at("10.0.0.1:7000"), "default/headless");
  EXPECT_EQ(names.at("[fd00::1]:7000"), "default/headless");
}

// With an agent that says that, and the maps.
class Commands : public testing::Test {
 protected:
  Commands() {
    const std::string id = std::to_string(::getpid());
    settings_.bpf_dir = "/sys/fs/bpf/weir-targets-" + id;
    settings_.run_dir = "/tmp/weir-targets-" + id;
  }
  ~Commands() override {
    agent_.stop();
    if (thread_.joinable()) thread_.join();
    std::error_code ignored;
    for (const auto& folder : {settings_.bpf_dir, settings_.run_dir}) std::filesystem::remove_all(folder, ignored);
  }
  void SetUp() override {
    interception::ProgramOptions options;
    options.bpf_dir = settings_.bpf_dir;
    auto programs = interception::Programs::load(options);
    ASSERT_TRUE(programs.ok()) << programs.error().message;
    maps_.emplace(interception::Maps::open(settings_.bpf_dir).value());
    for (const auto& address : {at("10.96.0.10", 50051), at("10.0.0.1", 7000), at("fd00::1", 7000)}) {
      ASSERT_TRUE(maps_->set_service(address, {WEIR_MODE_DETECT, 0, 1}).ok());
      ASSERT_TRUE(maps_->set_verdict(42, address, {UINT64_MAX, 0, 0, 0}).ok());
    }
    std::filesystem::create_directories(settings_.run_dir);
    agent_.Get(admin_api::kServices, [](const httplib::Request&, httplib::Response& response) {
      response.set_content(json{{admin_api::key::services, kServices}}.dump(), "application/json");
    });
    agent_.set_address_family(AF_UNIX);
    ASSERT_TRUE(agent_.bind_to_port(settings_.run_dir + "/" + admin_api::kSocketName, 80));
    thread_ = std::thread([this] { agent_.listen_after_bind(); });
    while (!agent_.is_running()) std::this_thread::yield();
  }
  int run(const std::string& command) {
    CLI::App app;
    Session session;
    session.settings = settings_;
    add_verdicts(app, session);
    add_bypass(app, session);
    app.parse(command);
    return session.run();
  }
  size_t verdicts() const { return maps_->verdicts().value().size(); }
  std::vector<std::string> braked() const {
    std::vector<std::string> all;
    const json brakes_on = brakes(*maps_).value();
    for (const json& row : brakes_on["services"]) all.push_back(row["address"]);
    return all;
  }

  Settings settings_;
  std::optional<interception::Maps> maps_;
  httplib::Server agent_;
  std::thread thread_;
};

TEST_F(Commands, ClearTheVerdictsOfTheServiceThatIsMeantOnly) {
  ASSERT_EQ(verdicts(), 3u);
  for (const char* service : {"plain:50051", "headless:7000", "headless:81", "greeter:81", "nobody:80"}) {
    EXPECT_EQ(run("verdicts clear --service " + std::string(service)), kData) << service;
    EXPECT_EQ(verdicts(), 3u) << service;
  }
  EXPECT_EQ(run("verdicts clear --service headless:50051"), kOk);
  EXPECT_EQ(verdicts(), 1u);
  EXPECT_EQ(run("verdicts clear"), kOk);
  EXPECT_EQ(verdicts(), 0u);
}

TEST_F(Commands, BrakeAHeadlessServiceAtItsEndpoints) {
  EXPECT_EQ(run("bypass on --service plain:50051"), kData);
  EXPECT_THAT(braked(), IsEmpty());
  EXPECT_EQ(run("bypass on --service headless:50051"), kOk);
  EXPECT_THAT(braked(), testing::UnorderedElementsAre("10.0.0.1:7000", "[fd00::1]:7000"));
  EXPECT_EQ(run("bypass off --service headless:50051"), kOk);
  EXPECT_THAT(braked(), IsEmpty());
}

}  // namespace
}  // namespace weir::weirctl
