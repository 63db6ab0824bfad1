// Connections that are not HTTP/2 pass byte for byte, with their ends as they are.
#include <gmock/gmock.h>
#include <netinet/tcp.h>

#include <array>
#include <fstream>

#include "full_listener.h"
#include "lab.h"

namespace weir::proxy::testing {
namespace {

using ::testing::HasSubstr;

struct RelayTest : Lab {
  // The one connection that reached `server`.
  Peer* arrival(RawBackend& server) {
    EXPECT_TRUE(until([&] { return server.connections.size() == 1; }));
    return server.connections.empty() ? nullptr : server.connections[0].get();
  }
};

TEST_F(RelayTest, OtherProtocolIsRelayedBothWaysWithHalfCloses) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.send("SSH-2.0-test\r\n");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  ASSERT_TRUE(until([&] { return there->received == "SSH-2.0-test\r\n"; }));
  there->send("welcome");
  ASSERT_TRUE(until([&] { return app.received == "welcome"; }));
  EXPECT_EQ(stats().tcp_relays.value(), 1u);

  app.finish_sending();
  ASSERT_TRUE(until([&] { return there->ended; }));
  settle(20ms);
  EXPECT_FALSE(app.ended);
  there->send(" and goodbye");
  there->finish_sending();
  ASSERT_TRUE(until([&] { return app.ended; }));
  EXPECT_EQ(app.received, "welcome and goodbye");
  EXPECT_FALSE(app.reset);
  EXPECT_TRUE(until([&] { return stats().tcp_relays.value() == 0 && stats().transports.value() == 0; }));

  const auto all = totals();
  ASSERT_EQ(all.tcps.size(), 1u);  // where it goes is known when its beginning is counted
  const auto& [labels, sums] = *all.tcps.begin();
  EXPECT_EQ(labels.flags, 0u);
  EXPECT_EQ(sums.opened, 1u);
  EXPECT_EQ(sums.duration_ms.count(), 1u);
  EXPECT_GE(sums.duration_ms.sum, 20);
  EXPECT_EQ(sums.bytes_received, 14u);
  EXPECT_EQ(sums.bytes_sent, 19u);
}

TEST_F(RelayTest, ServersHalfCloseLetsTheClientGoOn) {
  auto& server = backend<RawBackend>();
  server.on_accept = [](Peer& peer) {
    peer.send("all I have to say");
    peer.finish_sending();
  };
  start();
  Peer& app = raw_client();
  app.send("begin;");
  ASSERT_TRUE(until([&] { return app.ended; }));
  app.send("more;");
  app.finish_sending();
  Peer* there = arrival(server);
  ASSERT_TRUE(until([&] { return there->ended; }));
  EXPECT_EQ(there->received, "begin;more;");
  EXPECT_FALSE(there->reset);
}

TEST_F(RelayTest, ResetOfTheClientReachesTheServer) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_TRUE(until([&] { return there->received == "x y z"; }));
  app.abort();
  ASSERT_TRUE(until([&] { return there->reset || there->ended; }));
  EXPECT_TRUE(there->reset);
}

TEST_F(RelayTest, ResetOfTheServerReachesTheClient) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_TRUE(until([&] { return there->received == "x y z"; }));
  there->abort();
  ASSERT_TRUE(until([&] { return app.reset || app.ended; }));
  EXPECT_TRUE(app.reset);
}

// After its FIN nothing is received from an end any more, so its reset shows only to those who ask.
TEST_F(RelayTest, ResetAfterTheEndIsCarriedOver) {
  auto& server = backend<RawBackend>();
  start();
  for (const bool clients : {true, false}) {
    Peer& app = raw_client();
    app.send("x y z");
    const size_t count = clients ? 1 : 2;
    ASSERT_TRUE(until([&] { return server.connections.size() == count; }));
    Peer& there = *server.connections.back();
    Peer& leaves = clients ? app : there;
    Peer& stays = clients ? there : app;
    leaves.finish_sending();
    ASSERT_TRUE(until([&] { return stays.ended; }));
    settle(20ms);
    leaves.abort();
    EXPECT_TRUE(until([&] { return stays.error() == EPIPE; }, 5s)) << clients;
    EXPECT_TRUE(until([&] { return stats().tcp_relays.value() == 0; })) << clients;
  }
}

TEST_F(RelayTest, PrefaceInSingleBytesIsStillHttp2) {
  backend();
  start();
  // An engine's output, handed on a byte at a time.
  Endpoint app(http2::Role::client);
  StreamLog& call = app.open();
  call.stream->send_headers(to_headers(http2::testing::grpc_request()), false);
  call.stream->send_data(slice_of("hello"), true);
  const std::string bytes = app.output();
  Peer& wire = raw_client();
  for (size_t i = 0; i < bytes.size(); ++i) {
    wire.send(bytes.substr(i, 1));
    if (i < 40) settle(1ms);  // so that they arrive one by one
  }
  ASSERT_TRUE(until([&] {
    app.input(std::exchange(wire.received, {}));
    return complete(call);
  }));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_EQ(call.body, "hello");
  EXPECT_EQ(stats().tcp_relays_total.value(), 0u);
}

TEST_F(RelayTest, HalfAPrefaceAndSilenceIsRelayedAfterTheDetectionTimeout) {
  options.detection_timeout = 100ms;
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  const base::Instant begun = base::MonotonicClock::now();
  app.send("PRI * HT");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  EXPECT_GE(base::MonotonicClock::now() - begun, 100ms);
  ASSERT_TRUE(until([&] { return there->received == "PRI * HT"; }));
  app.send(" and then something else");
  ASSERT_TRUE(until([&] { return there->received == "PRI * HT and then something else"; }));
  there->send("ok");
  ASSERT_TRUE(until([&] { return app.received == "ok"; }));
}

TEST_F(RelayTest, HalfAPrefaceAndTheEndIsRelayed) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.send("PRI * HT");
  app.finish_sending();
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  ASSERT_TRUE(until([&] { return there->ended; }));
  EXPECT_EQ(there->received, "PRI * HT");
  there->send("bye");
  there->finish_sending();
  ASSERT_TRUE(until([&] { return app.ended; }));
  EXPECT_EQ(app.received, "bye");
}

TEST_F(RelayTest, ProtocolInWhichTheServerSpeaksFirstIsRelayedAfterTheDetectionTimeout) {
  options.detection_timeout = 50ms;
  auto& server = backend<RawBackend>();
  server.on_accept = [](Peer& peer) { peer.send("220 mail"); };
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return app.received == "220 mail"; }));
  app.send("HELO me");
  ASSERT_TRUE(until([&] { return server.connections[0]->received == "HELO me"; }));
}

// Bytes that come while the first ones are on their way must neither overtake nor replace them.
TEST_F(RelayTest, BytesThatArriveAroundTheDetectionTimeoutKeepTheirOrder) {
  options.detection_timeout = 20ms;
  auto& server = backend<RawBackend>();
  start();
  const SlowTurns slow(*this, 3ms);
  const std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r";  // all but its last byte
  for (int round = 0; round < 10; ++round) {
    std::vector<Peer*> apps;
    std::string expected(preface.substr(0, 1));
    for (int i = 0; i < 20; ++i) {
      apps.push_back(&raw_client());
      apps.back()->send(expected);
    }
    usleep(16'000);
    for (size_t i = 1; i < 80; ++i) {
      const char c = i < preface.size() ? preface[i] : static_cast<char>('a' + i % 26);
      expected += c;
      for (Peer* app : apps) app->send({&c, 1});
      usleep(300);
    }
    const size_t first = static_cast<size_t>(round) * 20;
    ASSERT_TRUE(until([&] {
      return server.connections.size() == first + 20 &&
             std::all_of(server.connections.begin() + static_cast<ptrdiff_t>(first), server.connections.end(),
                         [&](const auto& c) { return c->received.size() == expected.size(); });
    }));
    for (size_t i = first; i < server.connections.size(); ++i) EXPECT_EQ(server.connections[i]->received, expected);
    for (Peer* app : apps) app->close();
  }
}

TEST_F(RelayTest, ClientThatLeavesWithoutAWordLeavesNothing) {
  auto& server = backend<RawBackend>();
  start();
  raw_client().close();
  raw_client().abort();
  Peer& half = raw_client();
  half.send("PRI");
  settle(20ms);
  half.abort();
  EXPECT_TRUE(until([&] { return stats().transports.value() == 0; }));
  EXPECT_TRUE(server.connections.empty());
}

TEST_F(RelayTest, RefusedConnectMovesToAnotherEndpoint) {
  add_endpoint(loopback(closed_port()));
  add_endpoint(loopback(closed_port()));
  auto& server = backend<RawBackend>();
  start();
  for (size_t i = 1; i <= 6; ++i) {
    Peer& app = raw_client();
    app.send("hi there");
    ASSERT_TRUE(
        until([&] { return server.connections.size() == i && server.connections[i - 1]->received == "hi there"; }));
  }
}

// The client's next bytes come at the moment at which the connect succeeds.
TEST_F(RelayTest, BytesThatArriveWithTheConnectFollowTheFirstOnes) {
  options.detection_timeout = 20ms;
  FullListener full;
  add_endpoint(full.address());
  start();
  Peer& app = raw_client();
  app.send("PRI * ");
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 1; }));
  settle(20ms);
  const SlowTurns slow(*this, 20ms);
  full.accept();
  base::Fd accepted;
  ASSERT_TRUE(until([&] { return static_cast<bool>(accepted = full.accept()); }));  // its SYN is sent again
  app.send("and more");
  Peer there(std::move(accepted));
  ASSERT_TRUE(until([&] { return there.pump(), there.received.size() >= 14; }));
  EXPECT_EQ(there.received, "PRI * and more");
}

TEST_F(RelayTest, RelayThatLooksForAnEndpointDoesNotUndoAChangeOfTheConfiguration) {
  FullListener full;  // the relay's connect stays under way
  cluster.connection_pool.connect_timeout = 200ms;
  add_endpoint(full.address());
  start();
  Peer& relayed = raw_client();
  relayed.send("hi there");
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 1; }));
  settle(20ms);
  auto& added = backend();
  remove_endpoint(full.address());
  apply();
  Wire& app = client();
  StreamLog& first = app.unary();
  ASSERT_TRUE(until_complete(first));
  // The relay gives up; whatever it does next, the new endpoint stays in use by its connection.
  ASSERT_TRUE(until([&] { return relayed.reset || added.connections.size() > 1; }));
  StreamLog& second = app.unary();
  ASSERT_TRUE(until_complete(second));
  EXPECT_EQ(grpc_status(second), 0);
  const size_t http2_connections =
      static_cast<size_t>(std::count_if(added.connections.begin(), added.connections.end(),
                                        [](const auto& c) { return c->endpoint.connection.settings_received(); }));
  EXPECT_EQ(http2_connections, 1u);
}

TEST_F(RelayTest, ConnectionsAreSpreadOverTheEndpoints) {
  RawBackend* servers[] = {&backend<RawBackend>(), &backend<RawBackend>(), &backend<RawBackend>()};
  cluster.load_balancing = config::LoadBalancing::round_robin;
  start();
  for (size_t i = 1; i <= 9; ++i) {
    raw_client().send("x y z");
    ASSERT_TRUE(until([&] {
      size_t all = 0;
      for (const RawBackend* server : servers) all += server->connections.size();
      return all == i;
    }));
  }
  for (const RawBackend* server : servers) EXPECT_EQ(server->connections.size(), 3u);
}

// Of many endpoints that answer nothing a few are tried.
TEST_F(RelayTest, AnEndpointIsNotLookedForForLong) {
  std::vector<FullListener> full(40);
  for (const FullListener& listener : full) add_endpoint(listener.address());
  cluster.connection_pool.connect_timeout = 100ms;
  start();
  Peer& app = raw_client();
  app.send("hi there");
  EXPECT_TRUE(until([&] { return app.reset; }, 2s));
  EXPECT_TRUE(relay_ended_with(Flag::UF));
}

TEST_F(RelayTest, BytesOfAConnectionThatLastsAreCounted) {
  auto& server = backend<RawBackend>();
  start();
  const auto counted = [&] {
    uint64_t received = 0, sent = 0, closed = 0;
    for (const auto& [labels, sums] : totals().tcps)
      received += sums.bytes_received, sent += sums.bytes_sent, closed += sums.duration_ms.count();
    return std::array{received, sent, closed};
  };
  Peer& app = raw_client();
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  there->send("yes");
  EXPECT_TRUE(until([&] { return counted() == std::array<uint64_t, 3>{5, 3, 0}; }, 3s));
  app.send("!");
  settle(20ms);
  app.abort();
  EXPECT_TRUE(until([&] { return counted() == std::array<uint64_t, 3>{6, 3, 1}; }, 3s));
}

TEST_F(RelayTest, AccessLogTellsOfAConnection) {
  access_log = ::testing::TempDir() + "relay_access_log_" + std::to_string(getpid());
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  there->send("yes");
  ASSERT_TRUE(until([&] { return app.received == "yes"; }));
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  ASSERT_EQ(getpeername(there->fd(), reinterpret_cast<sockaddr*>(&from), &size), 0);
  settle(60ms);
  there->abort();
  std::string line;
  ASSERT_TRUE(until([&] { return static_cast<bool>(std::getline(std::ifstream(access_log), line)); }, 3s));
  std::filesystem::remove(access_log);
  EXPECT_THAT(line, HasSubstr(R"("bytes_received":5)"));
  EXPECT_THAT(line, HasSubstr(R"("bytes_sent":3)"));
  EXPECT_THAT(line, HasSubstr(R"("response_flags":"UC")"));
  EXPECT_THAT(line, HasSubstr("\"" + base::SocketAddress::from(from).to_string() + "\"")) << "the agent's own address";
  EXPECT_THAT(line, ::testing::ContainsRegex(R"("duration":([6-9][0-9]|[0-9]{3,}))"));
  EXPECT_THAT(line, HasSubstr(R"("upstream_cluster":"outbound|)"));
  EXPECT_THAT(line, HasSubstr(R"("upstream_transport_failure_reason":null)"));
}

TEST_F(RelayTest, AccessLogTellsWhoRefusedAConnection) {
  access_log = ::testing::TempDir() + "relay_access_log_" + std::to_string(getpid());
  const base::SocketAddress address = loopback(closed_port());
  add_endpoint(address);
  start();
  Peer& app = raw_client();
  app.send("x y z");
  std::string line;
  ASSERT_TRUE(until([&] { return static_cast<bool>(std::getline(std::ifstream(access_log), line)); }, 3s));
  std::filesystem::remove(access_log);
  EXPECT_THAT(line, HasSubstr(R"("response_flags":"UF")"));
  EXPECT_THAT(line, HasSubstr(R"("upstream_host":")" + address.to_string() + '"'));
  EXPECT_THAT(line, HasSubstr(R"("upstream_transport_failure_reason":"Connection refused")"));
  const auto all = totals();
  uint64_t opened = 0, closed = 0;
  for (const auto& [labels, sums] : all.tcps) opened += sums.opened, closed += sums.duration_ms.count();
  EXPECT_EQ(opened, 1u);
  EXPECT_EQ(closed, 1u);
}

struct KeepaliveTest : RelayTest {
  KeepaliveTest() {
    options.mark_upstream = [this](int opened) -> base::Result<void> {
      fd = opened;
      return {};
    };
  }
  // Of the relay's connection to the server.
  int option(int level, int name) const {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
  }
  void begin() {
    backend<RawBackend>();
    start();
    raw_client().send("x y z");
    ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 1 && fd >= 0; }));
  }
  std::atomic<int> fd{-1};
};

TEST_F(KeepaliveTest, IsAsAskedFor) {
  cluster.connection_pool.tcp_keepalive = config::TcpKeepalive{5, 40s, 7s};
  begin();
  settle(6500ms);
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPCNT), 5);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 40);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 7);
}

TEST_F(KeepaliveTest, IsThereAfterAWhileIfNobodyAsked) {
  begin();
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_TRUE(until([&] { return option(SOL_SOCKET, SO_KEEPALIVE) == 1; }, 8s));
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPCNT), 4);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 300);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 30);
}

TEST_F(RelayTest, NoEndpointResetsTheConnection) {
  start();
  Peer& app = raw_client();
  app.send("hi there");
  ASSERT_TRUE(until([&] { return app.reset || app.ended; }));
  EXPECT_TRUE(app.reset);
  EXPECT_TRUE(relay_ended_with(Flag::UH));
}

}  // namespace
}  // namespace weir::proxy::testing
