// Which connections count as unmanaged: those that the connect hook would divert if they were dialled now.
#include "interception/unmanaged.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>

#include "unmanaged_fixture.h"

namespace weir::interception {
namespace {

using testing::kAgentCgroup;
using testing::kCookie;
using testing::socket_to;
using testing::UnmanagedWorld;

// The name of the service, or "".
std::string target(UnmanagedWorld& world, const TcpSocket& socket, uint64_t cookie = kCookie) {
  auto filter = UnmanagedFilter::make(world.rows(), cookie, kAgentCgroup, world.snapshot);
  EXPECT_TRUE(filter.ok());
  const auto found = filter->target_of(socket);
  return found ? found->service->name + ":" + std::to_string(found->port->port) : "";
}

TEST(UnmanagedTest, AConnectionToADivertedAddress) {
  UnmanagedWorld world;
  EXPECT_EQ(target(world, socket_to("10.96.0.10")), "greeter:50051");
  EXPECT_EQ(target(world, socket_to("fd00:96::10", 50051, "fd00::5")), "greeter6:50051");
}

TEST(UnmanagedTest, OtherSockets) {
  UnmanagedWorld world;
  TcpSocket bound = socket_to("10.96.0.10"), mptcp = bound, own = bound;
  bound.device = 2;
  mptcp.mptcp = true;
  own.cgroup = kAgentCgroup;
  const std::pair<const char*, TcpSocket> cases[] = {
      {"a port that the service has not", socket_to("10.96.0.10", 80)},
      {"an endpoint", socket_to("10.244.0.9")},
      {"the listener of a diverted connection", socket_to("127.0.0.1", 61000, "127.0.0.1")},
      {"a server's end", socket_to("10.244.0.9", 40000, "10.96.0.10")},
      {"bound to a device", bound},
      {"MPTCP", mptcp},
      {"the agent's", own},
  };
  for (const auto& [name, socket] : cases) EXPECT_EQ(target(world, socket), "") << name;
}

TEST(UnmanagedTest, WhatIsNotDivertedNow) {
  using World = UnmanagedWorld;
  const TcpSocket socket = socket_to("10.96.0.10");
  const std::pair<const char*, std::function<void(World&)>> cases[] = {
      {"the node's brake", [](World& w) { w.config.flags = WEIR_CONFIG_BYPASS; }},
      {"the pod's brake", [](World& w) { w.pod_brakes = {kCookie}; }},
      {"observed only", [](World& w) { w.pods[kCookie].flags |= WEIR_POD_OBSERVE; }},
      {"excluded", [](World& w) { w.pods[kCookie].excluded_ports_be[0] = htons(50051); }},
      {"no row of the pod", [](World& w) { w.pods.clear(); }},
      {"no row of the service", [](World& w) { w.services.clear(); }},
      {"the service's brake", [&](World& w) { w.service_brakes = {socket.id.remote}; }},
      {"mode none", [&](World& w) { w.services[socket.id.remote].mode = WEIR_MODE_NONE; }},
  };
  for (const auto& [name, change] : cases) {
    World world;
    change(world);
    EXPECT_EQ(target(world, socket), "") << name;
  }
}

// Of a port that declares nothing: what the pod has dialled may have passed by on purpose from its first verdict on.
TEST(UnmanagedTest, APortThatLearns) {
  using World = UnmanagedWorld;
  const TcpSocket socket = socket_to("10.96.0.10");
  const base::SocketAddress& vip = socket.id.remote;
  const weir_verdict holds{UINT64_MAX, 5, 64, 0}, over{0, 5, 64, 0};
  const struct {
    const char* name;
    std::function<void(World&)> arrange;
    bool counts;
  } cases[] = {
      {"nothing learned", [](World&) {}, true},
      {"a verdict that holds",
       [&](World& w) {
         w.verdicts[{kCookie, vip}] = holds;
       },
       false},
      {"one that is over",
       [&](World& w) {
         w.verdicts[{kCookie, vip}] = over;
       },
       false},
      {"of another pod",
       [&](World& w) {
         w.verdicts[{kCookie + 1, vip}] = holds;
       },
       true},
      {"of another service",
       [&](World& w) {
         w.verdicts[{kCookie, socket_to("10.96.0.11").id.remote}] = holds;
       },
       true},
      {"the port does not learn any more",
       [&](World& w) {
         w.verdicts[{kCookie, vip}] = holds;
         w.services[vip].flags = 0;
       },
       true},
      {"it is declared now",
       [&](World& w) {
         w.verdicts[{kCookie, vip}] = holds;
         w.services[vip].mode = WEIR_MODE_L7;
       },
       true},
      {"verdicts that cannot be read", [](World& w) { w.fail_verdicts = true; }, false},
  };
  for (const auto& [name, arrange, counts] : cases) {
    World world;
    world.services[vip] = {WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS, 1};
    arrange(world);
    EXPECT_EQ(target(world, socket), counts ? "greeter:50051" : "") << name;
  }
}

TEST(UnmanagedTest, APodWithoutIpv6IsDivertedByIpv4Only) {
  UnmanagedWorld world;
  world.pods[kCookie].flags = 0;
  EXPECT_EQ(target(world, socket_to("10.96.0.10")), "greeter:50051");
  EXPECT_EQ(target(world, socket_to("fd00:96::10", 50051, "fd00::5")), "");
}

TEST(UnmanagedTest, AnUnknownCgroupOfTheAgentExemptsNobody) {
  UnmanagedWorld world;
  TcpSocket socket = socket_to("10.96.0.10");
  socket.cgroup = 0;
  auto filter = UnmanagedFilter::make(world.rows(), kCookie, 0, world.snapshot);
  EXPECT_TRUE(filter->target_of(socket).has_value());
}

// The agent's own connections go there, too, and so do those of one that drains, which is in another cgroup.
TEST(UnmanagedTest, EndpointsOfHeadlessServicesWhileItIsKnownWhichSocketsAreAgents) {
  UnmanagedWorld world;
  TcpSocket own = socket_to("10.244.0.7", 8080);
  EXPECT_EQ(target(world, own), "headless:50051");
  own.cgroup = kAgentCgroup;
  EXPECT_EQ(target(world, own), "");
  auto unknown_cgroup = UnmanagedFilter::make(world.rows(), kCookie, 0, world.snapshot);
  EXPECT_FALSE(unknown_cgroup->target_of(socket_to("10.244.0.7", 8080)).has_value());
  EXPECT_TRUE(unknown_cgroup->target_of(socket_to("10.96.0.10")).has_value());
  world.others_beat = true;
  EXPECT_EQ(target(world, socket_to("10.244.0.7", 8080)), "");
  EXPECT_EQ(target(world, socket_to("10.96.0.10")), "greeter:50051") << "agents don't dial clusterIPs";
}

TEST(UnmanagedTest, ReadsARowOnce) {
  UnmanagedWorld world;
  auto filter = UnmanagedFilter::make(world.rows(), kCookie, kAgentCgroup, world.snapshot);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(filter->target_of(socket_to("10.96.0.10")).has_value());
  EXPECT_EQ(world.service_reads, 1);
}

TEST(UnmanagedTest, MapsThatCannotBeRead) {
  UnmanagedWorld world;
  world.fail = true;
  EXPECT_FALSE(UnmanagedFilter::make(world.rows(), kCookie, kAgentCgroup, world.snapshot).ok());
}

}  // namespace
}  // namespace weir::interception
