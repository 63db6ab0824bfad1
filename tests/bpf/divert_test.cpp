// Connections that are diverted, and what both ends then see.
#include <arpa/inet.h>
#include <gmock/gmock.h>

#include "base/clock.h"
#include "diversion.h"
#include "interception/heartbeats.h"

namespace weir::bpf_test {
namespace {

class Divert : public Diversion, public testing::WithParamInterface<Dialling> {
 protected:
  base::SocketAddress service() const { return address(GetParam().service_ip, kServicePort); }
};

INSTANTIATE_TEST_SUITE_P(Families, Divert, testing::ValuesIn(kDiallings),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_P(Divert, ReachesTheAgentWhichLearnsTheDestination) {
  base::Fd client = pod_.socket(GetParam().family);
  ASSERT_EQ(dial(client, service()), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);

  auto original = maps_.original_destination(arrived.socket.get());
  ASSERT_TRUE(original.has_value());
  EXPECT_EQ(interception::from_abi(original->destination), service());
  EXPECT_EQ(interception::from_abi(original->source), name_of(client));
  EXPECT_EQ(original->netns_cookie, netns_.cookie());
  EXPECT_EQ(original->mode, WEIR_MODE_L7);
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 1u);
  EXPECT_EQ(counted(WEIR_STAT_HANDED_OVER), 1u);
  EXPECT_EQ(counted(WEIR_STAT_HANDOVER_MISSED), 0u);
}

TEST_P(Divert, ApplicationSeesWhatItDialledAndItsPodsIp) {
  base::Fd client = pod_.socket(GetParam().family);
  ASSERT_EQ(dial(client, service()), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);

  EXPECT_EQ(peer_of(client), service());
  EXPECT_EQ(name_of(client).ip, address(GetParam().pod_ip, 0).ip);
  // The agent's socket carries the same storage, but shows the addresses as they are.
  EXPECT_EQ(peer_of(arrived.socket), address(GetParam().loopback, name_of(client).port));
  EXPECT_EQ(name_of(arrived.socket), address(GetParam().loopback, kListenerPort));
}

TEST_P(Divert, AddressKeepsTheFamilyOfTheSocket) {
  base::Fd client = pod_.socket(GetParam().family);
  ASSERT_EQ(dial(client, service()), 0);
  for (auto read_address : {getpeername, getsockname}) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    ASSERT_EQ(read_address(client.get(), reinterpret_cast<sockaddr*>(&storage), &size), 0);
    EXPECT_EQ(storage.ss_family, GetParam().family);
  }
  EXPECT_EQ(arrival().where, Where::agent);
}

TEST_P(Divert, BytesPassBothWays) {
  base::Fd client = pod_.socket(GetParam().family);
  ASSERT_EQ(dial(client, service()), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  char buffer[8] = {};
  ASSERT_EQ(send(client.get(), "ping", 4, 0), 4);
  ASSERT_EQ(recv(arrived.socket.get(), buffer, sizeof buffer, 0), 4);
  ASSERT_EQ(send(arrived.socket.get(), buffer, 4, 0), 4);
  ASSERT_EQ(recv(client.get(), buffer, sizeof buffer, 0), 4);
  EXPECT_STREQ(buffer, "ping");
}

TEST_P(Divert, BoundToThePodsIpBefore) {
  base::Fd client = pod_.socket(GetParam().family);
  ASSERT_EQ(bind_to(client, address(GetParam().pod_ip, 0)), 0);
  ASSERT_EQ(dial(client, service()), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  EXPECT_EQ(name_of(client).ip, address(GetParam().pod_ip, 0).ip);
  EXPECT_EQ(peer_of(arrived.socket), name_of(client));
  auto original = maps_.original_destination(arrived.socket.get());
  ASSERT_TRUE(original.has_value());
  EXPECT_EQ(interception::from_abi(original->destination), service());
}

TEST_P(Divert, ListsItAsAFlowUntilItIsClosed) {
  base::Fd client = pod_.socket(GetParam().family);
  ASSERT_EQ(dial(client, service()), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);

  auto flows = maps_.flows();
  ASSERT_TRUE(flows.ok()) << flows.error().message;
  ASSERT_EQ(flows->size(), 1u);
  const interception::Flow& flow = flows->front();
  EXPECT_EQ(flow.netns_cookie, netns_.cookie());
  EXPECT_EQ(flow.source, name_of(client));
  EXPECT_EQ(flow.destination, service());
  EXPECT_EQ(flow.mode, WEIR_MODE_L7);
  EXPECT_GT(flow.diverted_ns, 0u);

  abort_connection(arrived.socket);
  EXPECT_EQ(maps_.flows()->size(), 0u) << "reset by the agent, the application's socket still open";
}

TEST_P(Divert, NonBlockingConnect) {
  base::Fd client = pod_.socket(GetParam().family, SOCK_STREAM | SOCK_NONBLOCK);
  ASSERT_EQ(dial(client, service()), EINPROGRESS);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  EXPECT_EQ(dial(client, service()), 0);
  EXPECT_TRUE(maps_.original_destination(arrived.socket.get()).has_value());
  EXPECT_EQ(peer_of(client), service());
}

using DivertMore = Diversion;

TEST_F(DivertMore, ModeOfTheServiceTravelsAlong) {
  for (uint32_t mode : {WEIR_MODE_L7, WEIR_MODE_DETECT, WEIR_MODE_TCP}) {
    write_service(kService4, mode);
    base::Fd client = pod_.socket(AF_INET);
    ASSERT_EQ(dial(client, kService4), 0);
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    EXPECT_EQ(maps_.original_destination(arrived.socket.get())->mode, mode);
  }
}

// Ahead: by the clock of another CPU.
TEST_F(DivertMore, FreshHeartbeat) {
  for (int ago_ms : {500, 0, -1000}) {
    beat(maps_, std::chrono::milliseconds(ago_ms));
    base::Fd client = pod_.socket(AF_INET);
    ASSERT_EQ(dial(client, kService4), 0);
    EXPECT_EQ(arrival().where, Where::agent) << ago_ms;
  }
}

TEST_F(DivertMore, WorkerBeatsThroughItsMapping) {
  auto heartbeats = interception::Heartbeats::open(maps_, kGeneration);
  ASSERT_TRUE(heartbeats.ok()) << heartbeats.error().message;
  const base::Instant now = base::MonotonicClock::now();
  auto heartbeat = heartbeats->claim(now - std::chrono::seconds(2));
  ASSERT_TRUE(heartbeat.ok());
  row_.heartbeat = heartbeat->slot();
  write_pod();
  base::Fd silent = pod_.socket(AF_INET), alive = pod_.socket(AF_INET);
  ASSERT_EQ(dial(silent, kService4), 0);
  EXPECT_EQ(arrival().where, Where::plain);
  heartbeat->beat(now);
  ASSERT_EQ(dial(alive, kService4), 0);
  EXPECT_EQ(arrival().where, Where::agent);
}

TEST_F(DivertMore, PodWithoutKnownIpSeesLoopback) {
  std::memset(row_.pod_ip4, 0, sizeof row_.pod_ip4);
  write_pod();
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, kService4), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  EXPECT_EQ(name_of(client).ip, address("127.0.0.1", 0).ip);
  EXPECT_EQ(peer_of(client), kService4);
}

TEST_F(DivertMore, BoundToAnotherOfThePodsOwnAddresses) {
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(bind_to(client, address(kOtherIp4, 0)), 0);
  ASSERT_EQ(dial(client, kService4), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  EXPECT_EQ(name_of(client).ip, address(kOtherIp4, 0).ip);
  auto original = maps_.original_destination(arrived.socket.get());
  ASSERT_TRUE(original.has_value());
  EXPECT_EQ(interception::from_abi(original->source), name_of(client));
  EXPECT_EQ(maps_.flows()->at(0).source, name_of(client));
}

TEST_F(DivertMore, ManyAtOnceKeepTheirOwnDestinations) {
  constexpr uint16_t kFirst = 1000;
  constexpr int kCount = 200;
  agent4_ = base::Fd();
  agent4_ = agent_listener(pod_, maps_, address("127.0.0.1", kListenerPort), 2 * kCount);
  std::vector<base::Fd> clients;
  for (int i = 0; i < kCount; ++i) {
    auto vip = address(kServiceIp4, static_cast<uint16_t>(kFirst + i));
    write_service(vip, WEIR_MODE_L7);
    clients.push_back(pod_.socket(AF_INET));
    ASSERT_EQ(dial(clients.back(), vip), 0);
  }
  EXPECT_EQ(maps_.flows()->size(), static_cast<size_t>(kCount));
  for (int i = 0; i < kCount; ++i) {
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    auto original = maps_.original_destination(arrived.socket.get());
    ASSERT_TRUE(original.has_value());
    auto destination = interception::from_abi(original->destination);
    ASSERT_GE(destination.port, kFirst);
    EXPECT_EQ(peer_of(clients[static_cast<size_t>(destination.port - kFirst)]), destination);
    EXPECT_EQ(name_of(clients[static_cast<size_t>(destination.port - kFirst)]).port, peer_of(arrived.socket).port);
  }
}

}  // namespace
}  // namespace weir::bpf_test
