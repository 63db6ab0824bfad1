// Connections that are diverted, and what both ends then see.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <liburing.h>

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

// As applications do that come back from the same port.
TEST_P(Divert, BoundToThePodsIpAndAPortBefore) {
  for (int round = 0; round < 2; ++round) {
    base::Fd client = pod_.socket(GetParam().family);
    const int on = 1;
    ASSERT_EQ(setsockopt(client.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    const base::SocketAddress own = address(GetParam().pod_ip, 45678);
    ASSERT_EQ(bind_to(client, own), 0) << "round " << round;
    ASSERT_EQ(dial(client, service()), 0) << "round " << round;
    EXPECT_EQ(name_of(client), own);
    EXPECT_EQ(peer_of(client), service());
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    EXPECT_EQ(interception::from_abi(maps_.original_destination(arrived.socket.get())->source), own);
    const linger now{1, 0};  // no TIME_WAIT
    setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
}

// The program runs for the socket's cgroup and namespace, whichever thread of the kernel connects.
TEST_P(Divert, ConnectThroughIoUring) {
  const struct {
    const char* name;
    uint32_t setup, sqe;
  } ways[] = {{"inline", 0, 0}, {"by a worker of the kernel", 0, IOSQE_ASYNC}, {"SQPOLL", IORING_SETUP_SQPOLL, 0}};
  sockaddr_storage to{};
  const socklen_t size = service().to(to);
  for (const auto& way : ways) {
    SCOPED_TRACE(way.name);
    base::Fd client = pod_.socket(GetParam().family);
    if (GetParam().family == AF_INET6 && service().ip.is_v4()) {
      auto& v6 = reinterpret_cast<sockaddr_in6&>(to);
      v6 = {};
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(kServicePort);
      std::copy(service().ip.bytes.begin(), service().ip.bytes.end(), v6.sin6_addr.s6_addr);
    }
    io_uring ring;
    ASSERT_EQ(io_uring_queue_init(4, &ring, way.setup), 0);
    io_uring_sqe* sqe = io_uring_get_sqe(&ring);
    io_uring_prep_connect(sqe, client.get(), reinterpret_cast<sockaddr*>(&to),
                          GetParam().family == AF_INET6 ? sizeof(sockaddr_in6) : size);
    sqe->flags |= way.sqe;
    ASSERT_EQ(io_uring_submit(&ring), 1);
    io_uring_cqe* cqe = nullptr;
    __kernel_timespec limit{5, 0};
    ASSERT_EQ(io_uring_wait_cqe_timeout(&ring, &cqe, &limit), 0);
    EXPECT_EQ(cqe->res, 0);
    io_uring_queue_exit(&ring);
    EXPECT_EQ(peer_of(client), service());
    EXPECT_EQ(name_of(client).ip, address(GetParam().pod_ip, 0).ip);
    EXPECT_EQ(arrival().where, Where::agent);
  }
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
  EXPECT_EQ(name_of(client).ip, address(GetParam().pod_ip, 0).ip) << "as long as it connects";
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  EXPECT_EQ(name_of(client).ip, address(GetParam().pod_ip, 0).ip);
  EXPECT_EQ(dial(client, service()), 0);
  EXPECT_TRUE(maps_.original_destination(arrived.socket.get()).has_value());
  EXPECT_EQ(peer_of(client), service());
}

// What each of several connect() calls on one socket says, beside a socket of a pod that is not enrolled.
TEST_P(Divert, ConnectingAgainSaysWhatItSaysWithoutWeir) {
  Pod plain(installed().node);
  base::Fd server = plain.listen(service());
  for (const int flags : {0, int{SOCK_NONBLOCK}}) {
    SCOPED_TRACE(flags ? "non-blocking" : "blocking");
    std::vector<int> said[2];
    for (const Pod* pod : {&pod_, &plain}) {
      const base::Fd client = pod->socket(GetParam().family, SOCK_STREAM | flags);
      std::vector<int>& results = said[pod == &plain];
      results.push_back(dial(client, service()));
      const Arrival arrived = accept_one({&agent4_, &agent6_}, {&server});
      EXPECT_EQ(arrived.where, pod == &plain ? Where::plain : Where::agent);
      for (int again = 0; again < 3; ++again) results.push_back(dial(client, service()));
      results.push_back(dial(client, address(GetParam().service_ip, kServicePort + 1)));
      EXPECT_EQ(peer_of(client), service());
    }
    EXPECT_EQ(said[0], said[1]);
    EXPECT_EQ(said[0].back(), EISCONN);
  }
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 2u) << "once a connection";
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
