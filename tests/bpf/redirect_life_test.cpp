// Redirect while agents come and go: connections live longer than the agent that accepted them, and keep their order.
#include <memory>

#include "inspect.h"
#include "redirect.h"

namespace weir::bpf_test {
namespace {

class RedirectLife : public testing::Test {
 protected:
  void enrol(interception::Maps& maps) {
    weir_pod row = enrolled_row();
    row.flags |= WEIR_POD_REDIRECT;
    ASSERT_TRUE(maps.set_pod(pod_.netns().cookie(), row).ok());
    beat(maps);
    ASSERT_TRUE(maps.set_service(kService, {WEIR_MODE_L7, 0, kGeneration}).ok());
  }
  // Sends a part each way and checks it; returns whether it went past TCP.
  bool exchange() {
    const uint64_t before = received_by_tcp(agent_);
    EXPECT_TRUE(send_all(client_, "to the agent"));
    EXPECT_EQ(receive(agent_, 12), "to the agent");
    EXPECT_TRUE(send_all(agent_, "and back"));
    EXPECT_EQ(receive(client_, 8), "and back");
    return received_by_tcp(agent_) == before;
  }
  void connect(const base::Fd& listener) {
    client_ = pod_.socket(AF_INET);
    ASSERT_EQ(dial_without_blocking(client_, kService), 0);
    agent_ = accept_one({&listener}, {}).socket;
    ASSERT_TRUE(send_all(client_, kPreface));
    ASSERT_EQ(receive(agent_, kPreface.size()), kPreface);
  }

  const base::SocketAddress kService = address(kServiceIp4, kServicePort);
  Node node_;
  Pod pod_{node_};
  base::Fd client_, agent_;
};

TEST_F(RedirectLife, ANewAgentSwapsTheProgramUnderLiveConnections) {
  auto first = std::make_unique<interception::Programs>(load_and_attach(node_));
  EXPECT_TRUE(first->redirect().on);
  enrol(first->maps());
  base::Fd listener = agent_listener(pod_, first->maps(), address("127.0.0.1", kListenerPort));
  connect(listener);
  EXPECT_TRUE(exchange());
  ASSERT_TRUE(send_all(client_, "queued while nobody reads "));
  first.reset();
  EXPECT_TRUE(send_all(client_, "without an agent "));
  const uint32_t program_before = redirect_program(node_.bpf_dir());
  interception::Programs second = load_and_attach(node_);
  EXPECT_NE(redirect_program(node_.bpf_dir()), program_before);
  EXPECT_TRUE(send_all(client_, "and with the next"));
  EXPECT_EQ(receive(agent_, 60), "queued while nobody reads without an agent and with the next");
  EXPECT_TRUE(exchange());
  EXPECT_EQ(second.maps().accounts().value(), 1u);
}

TEST_F(RedirectLife, AnEmptySlotMeansTcpForLife) {
  interception::Programs programs = load_and_attach(node_);
  enrol(programs.maps());
  base::Fd listener = agent_listener(pod_, programs.maps(), address("127.0.0.1", kListenerPort));
  connect(listener);
  EXPECT_TRUE(exchange());
  ASSERT_TRUE(send_all(client_, "redirected, "));
  {
    auto options = node_.options();
    options.redirect = {false, "--redirect off"};
    auto off = interception::Programs::load(options);
    ASSERT_TRUE(off.ok()) << off.error().message;
    ASSERT_TRUE(off->attach().ok());
    EXPECT_FALSE(off->redirect().on);
    ASSERT_TRUE(send_all(client_, "by TCP, "));
    EXPECT_FALSE(redirect_program(node_.bpf_dir()));
  }
  interception::Programs again = load_and_attach(node_);
  ASSERT_TRUE(send_all(client_, "by TCP for life"));
  EXPECT_EQ(receive(agent_, 35), "redirected, by TCP, by TCP for life");
  EXPECT_FALSE(exchange());
  EXPECT_EQ(again.maps().accounts().value(), 0u);
}

TEST_F(RedirectLife, GateOffUsesNothingOfIt) {
  auto options = node_.options();
  options.redirect = {false, "Linux 6.1.90 is older than 6.1.142"};
  auto programs = interception::Programs::load(options);
  ASSERT_TRUE(programs.ok()) << programs.error().message;
  ASSERT_TRUE(programs->attach().ok());
  enrol(programs->maps());
  base::Fd listener = agent_listener(pod_, programs->maps(), address("127.0.0.1", kListenerPort));
  connect(listener);
  EXPECT_FALSE(exchange());
  EXPECT_FALSE(programs->maps().redirected(agent_.get()));
  EXPECT_EQ(links_in(node_.bpf_dir()).count("weir_msg"), 0u);
  const auto stats = programs->maps().stats().value();
  EXPECT_EQ(stats[WEIR_STAT_REDIRECTED] + stats[WEIR_STAT_REDIRECT_TCP], 0u);
}

TEST_F(RedirectLife, UninstallUnderLiveConnectionsKeepsTheOrder) {
  {
    interception::Programs programs = load_and_attach(node_);
    enrol(programs.maps());
    base::Fd listener = agent_listener(pod_, programs.maps(), address("127.0.0.1", kListenerPort));
    connect(listener);
    EXPECT_TRUE(exchange());
    ASSERT_TRUE(interception::Programs::uninstall(node_.bpf_dir()).ok());
    EXPECT_FALSE(exchange());
  }
  EXPECT_FALSE(exchange()) << "the maps are gone";
}

}  // namespace
}  // namespace weir::bpf_test
