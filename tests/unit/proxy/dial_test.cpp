// Looking for an endpoint that takes a relayed connection: how many are tried, what that costs the pod, and which
// source ports are taken.
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <cstring>
#include <fstream>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

struct DialTest : Lab {
  DialTest() { mode = config::Mode::tcp; }
  void add_endpoints_that_refuse(int count) {
    const uint16_t port = closed_port();
    for (int i = 1; i <= count; ++i) add_endpoint({*base::IpAddress::parse("127.0.1." + std::to_string(i)), port});
  }
  bool all_reset(const std::vector<Peer*>& apps) {
    return until([&] { return std::all_of(apps.begin(), apps.end(), [](Peer* p) { return p->reset || p->ended; }); });
  }
};

TEST_F(DialTest, AFewOfManyThatRefuseAreTried) {
  add_endpoints_that_refuse(40);
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return app.reset; }));
  EXPECT_TRUE(until([&] { return relay_ended_with(Flag::UF); }));
  EXPECT_EQ(stats().upstream_connect_failures.value(), 5u);
}

TEST_F(DialTest, FewThatRefuseAreTriedOnceEach) {
  add_endpoints_that_refuse(3);
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return app.reset; }));
  EXPECT_TRUE(until([&] { return relay_ended_with(Flag::UF); }));
  EXPECT_EQ(stats().upstream_connect_failures.value(), 3u);
}

// Two pods that have many connections to dial for.
struct DialTurnsTest : DialTest {
  static constexpr int kEach = 40;
  void begin() {
    add_endpoints_that_refuse(40);
    start();
    auto listening = listen_on_loopback();
    other_ = address_of(listening.get());
    worker().add_source(enrolled_pod("other-uid", std::move(listening)));
    count_each_turn();
  }
  void open_all() {
    for (int i = 0; i < kEach; ++i)
      for (const auto& address : {listener_address, other_}) apps_.push_back(&raw_client(connect_to(address)));
  }
  void TearDown() override {
    over_ = true;
    on_worker([] { return 0; });
    // Who was reset in the accept queue is accepted all the same, late.
    EXPECT_TRUE(until([&] { return stats().transports.value() == 0 && stats().dials.value() == 0; })) << gauges();
    worker().remove_source("other-uid");
    DialTest::TearDown();
  }
  // Attempts that failed in one turn, at most.
  uint64_t most_in_a_turn() {
    return on_worker([this] { return most_; });
  }

  std::vector<Peer*> apps_;

 private:
  void count_each_turn() {
    worker().reactor().post([this] {
      const uint64_t failures = stats().upstream_connect_failures.value();
      most_ = std::max(most_, failures - std::exchange(seen_, failures));
      if (!over_) count_each_turn();
    });
  }
  base::SocketAddress other_;
  uint64_t seen_ = 0, most_ = 0;
  std::atomic<bool> over_ = false;
};

TEST_F(DialTurnsTest, AttemptsWaitForTheirPodsTurn) {
  begin();
  std::promise<void> go = stop_worker();
  open_all();
  go.set_value();
  ASSERT_TRUE(all_reset(apps_));
  EXPECT_EQ(stats().upstream_connect_failures.value(), 2u * kEach * 5);
  EXPECT_LE(most_in_a_turn(), 4u);
}

// Those of connections that were accepted long ago.
TEST_F(DialTurnsTest, LateOnesDoToo) {
  mode = config::Mode::l7;
  begin();
  open_all();
  ASSERT_TRUE(until([&] { return stats().transports.value() == 2 * kEach; }));
  std::promise<void> go = stop_worker();
  for (Peer* app : apps_) app->send("x y z");
  settle(10ms);
  go.set_value();
  ASSERT_TRUE(all_reset(apps_));
  EXPECT_EQ(stats().upstream_connect_failures.value(), 2u * kEach * 5);
  EXPECT_LE(most_in_a_turn(), 4u);
}

TEST_F(DialTurnsTest, ThoseWhoLeaveMeanwhileLeaveNothing) {
  begin();
  const SlowTurns slow(*this, 2ms);
  for (const auto how : {config::Mode::tcp, config::Mode::detect}) {
    on_worker([&] { return mode = how; });
    open_all();
    settle(20ms);
    EXPECT_GT(stats().dials.value(), 0u);
    for (Peer* app : apps_) app->abort();
    EXPECT_TRUE(until([&] { return stats().transports.value() == 0 && stats().dials.value() == 0; })) << gauges();
  }
}

// A port that declares nothing, of a Service that learns.
struct SourcePortTest : Lab {
  SourcePortTest() {
    mode = config::Mode::detect;
    options.verdicts.learn = [](uint64_t, const base::SocketAddress&, base::Instant) {};
    options.verdicts.forget = [](uint64_t, const base::SocketAddress&) {};
  }
  void learn(const std::function<void(config::Snapshot&, config::Service&)>& change = {}) {
    auto changed = std::make_shared<config::Snapshot>(*snapshot());
    auto service = std::make_shared<config::Service>(*changed->services[0]);
    service->ports[0].protocol = config::Protocol::unknown;
    service->ports[0].mode = config::Mode::detect;
    if (change) change(*changed, *service);
    changed->services[0] = std::move(service);
    worker().set_snapshot(std::move(changed)).wait();
  }
  void fail_closed() {
    auto pod =
        std::make_shared<config::Pod>(on_worker([this] { return config::Pod(worker().source("client-uid")->pod()); }));
    pod->fail_closed = true;
    worker().update_source(std::move(pod));
  }
  // Of the worker's connection to `server` when a client has said something.
  uint16_t source_port(RawBackend& server) {
    const size_t before = server.connections.size();
    Peer& app = raw_client();
    app.send("x y z");
    if (!until([&] { return server.connections.size() > before && server.connections[before]->received == "x y z"; }))
      return 0;
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    getpeername(server.connections[before]->fd(), reinterpret_cast<sockaddr*>(&peer), &size);
    app.abort();
    return base::SocketAddress::from(peer).port;
  }
  // Whether it is of the half that connect() does not choose.
  bool apart(RawBackend& server) {
    unsigned first = 0;
    std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> first;
    return (source_port(server) - first) % 2 == 1;
  }
};

TEST_F(SourcePortTest, IsApartWhereOthersMayPassBy) {
  auto& server = backend<RawBackend>();
  start();
  learn();
  EXPECT_FALSE(apart(server)) << "nothing is known yet";
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(apart(server)) << i;
  StreamLog& call = client().unary();
  ASSERT_TRUE(until([&] { return stats().downstream_connections.value() == 1; }));
  EXPECT_FALSE(apart(server)) << "it was HTTP/2";
  EXPECT_FALSE(complete(call));
}

TEST_F(SourcePortTest, IsNotWherePodsFailClosed) {
  auto& server = backend<RawBackend>();
  start();
  learn();
  fail_closed();
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(apart(server)) << i;
}

TEST_F(SourcePortTest, IsNotWhereNothingIsLearned) {
  auto& server = backend<RawBackend>();
  start();
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(apart(server)) << "declared, " << i;
  learn([](config::Snapshot&, config::Service& service) { service.ports[0].shapes_tcp = true; });
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(apart(server)) << "shaped, " << i;
}

// Of a headless Service the application dials the same address as the agent: timestamps are of one offset.
TEST_F(SourcePortTest, IsNotAtEndpointsThatAreDialledThemselves) {
  auto& server = backend<RawBackend>();
  options.original_destination = [&](int) { return std::optional(Diverted{server.address(), mode}); };
  start();
  learn([&](config::Snapshot& changed, config::Service& service) {
    service.by_endpoint = true;
    changed.by_endpoint =
        std::make_shared<const config::Directory::Places>(config::Directory::Places{{server.address(), {0, 0}}});
  });
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(apart(server)) << i;
}

// In a network namespace that has twenty ports for those who don't say which.
struct FewPortsTest : SourcePortTest {
  static constexpr uint16_t kFirst = 40'000, kPorts = 20;

  void SetUp() override {
    own_ = base::Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(unshare(CLONE_NEWNET), 0) << "needs root";
    few_ = base::Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    const base::Fd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq lo{};
    std::strcpy(lo.ifr_name, "lo");
    lo.ifr_flags = IFF_UP;
    ASSERT_EQ(ioctl(any.get(), SIOCSIFFLAGS, &lo), 0);
  }
  void TearDown() override {
    setns(own_.get(), CLONE_NEWNET);
    own_.reset();
    few_.reset();
    SourcePortTest::TearDown();
  }
  void begin() {
    start();
    // To enrol a pod is to visit its namespace, after which this thread is back in its first one.
    ASSERT_EQ(setns(few_.get(), CLONE_NEWNET), 0);
    learn();
    std::ofstream("/proc/sys/net/ipv4/ip_local_port_range") << kFirst << " " << kFirst + kPorts - 1;
  }
  // From a port that is not one of the twenty.
  Peer& client_from(uint16_t port) {
    base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage storage;
    socklen_t size = loopback(port).to(storage);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size), 0);
    size = listener_address.to(storage);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&storage), size), 0);
    return raw_client(std::move(fd));
  }

 private:
  base::Fd own_, few_;
};

// Short connections whose client ends them first: each leaves the agent's end in TIME_WAIT.
TEST_F(FewPortsTest, AreNotUsedUpByAPodThatFailsClosed) {
  cluster.load_balancing = config::LoadBalancing::round_robin;
  RawBackend* servers[] = {&backend<RawBackend>(), &backend<RawBackend>(), &backend<RawBackend>()};
  begin();
  fail_closed();
  for (uint16_t i = 0; i < 2 * kPorts; ++i) {
    Peer& app = client_from(static_cast<uint16_t>(20'000 + i));
    app.send("x y z");
    app.finish_sending();
    ASSERT_TRUE(until([&] {
      for (RawBackend* server : servers)
        for (const auto& connection : server->connections)
          if (connection->ended) connection->close();
      return app.ended || app.reset;
    }));
    ASSERT_FALSE(app.reset) << "connection " << i;
  }
}

TEST_F(FewPortsTest, ADialGoesOnWhenNoneIsLeftToBeTaken) {
  auto& server = backend<RawBackend>();
  auto sink = listen_on_loopback();
  begin();
  ASSERT_NE(source_port(server), 0);
  ASSERT_NE(source_port(server), 0) << "it takes ports by now";
  // connect() shares ports between destinations, bind() does not.
  std::vector<base::Fd> all;
  for (base::Fd fd = connect_to(address_of(sink.get())); fd; fd = connect_to(address_of(sink.get())))
    all.push_back(std::move(fd));
  ASSERT_GE(all.size(), kPorts - 2u);
  base::Fd none(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in any{AF_INET, 0, {}, {}};
  ASSERT_NE(bind(none.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  EXPECT_NE(source_port(server), 0);
}

}  // namespace
}  // namespace weir::proxy::testing
