// Ports that declare nothing: an endpoint is dialled at once, and whoever speaks first decides.
#include "full_listener.h"
#include "lab.h"

namespace weir::proxy::testing {
namespace {

using detection::Verdict;

struct DetectTest : Lab {
  DetectTest() { mode = config::Mode::detect; }
  Peer* arrival(RawBackend& server) {
    EXPECT_TRUE(until([&] { return server.connections.size() == 1; }));
    return server.connections.empty() ? nullptr : server.connections[0].get();
  }
  uint32_t held_buffers() {
    return on_worker([this] { return worker().reactor().buffers().held(); });
  }
  uint64_t detected(Verdict verdict) { return stats().detected[1][static_cast<size_t>(verdict)].value(); }
};

TEST_F(DetectTest, ServerIsDialledBeforeTheClientSpeaks) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  EXPECT_EQ(stats().tcp_relays_total.value(), 0u) << "nothing is decided";
  app.send("*1\r\n$4\r\nPING\r\n");
  ASSERT_TRUE(until([&] { return there->received == "*1\r\n$4\r\nPING\r\n"; }));
  there->send("+PONG\r\n");
  ASSERT_TRUE(until([&] { return app.received == "+PONG\r\n"; }));
  EXPECT_EQ(server.connections.size(), 1u) << "that connection is the relay's";
  EXPECT_EQ(detected(Verdict::tcp), 1u);
}

TEST_F(DetectTest, ServerThatSpeaksFirstIsHeardAtOnce) {
  options.detection_timeout = 1h;
  auto& server = backend<RawBackend>();
  server.on_accept = [](Peer& peer) { peer.send("SSH-2.0-test\r\n"); };
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return app.received == "SSH-2.0-test\r\n"; }));
  app.send("SSH-2.0-mine\r\n");
  ASSERT_TRUE(until([&] { return server.connections[0]->received == "SSH-2.0-mine\r\n"; }));
  EXPECT_EQ(detected(Verdict::server_first), 1u);
}

// What a server says first that is no SETTINGS frame goes on at its first wrong byte, however it is cut.
TEST_F(DetectTest, WhatLooksLikeSettingsForAWhileIsPassedOnWhole) {
  options.detection_timeout = 1h;
  const std::string_view greetings[] = {
      std::string_view("\0\0\x06\x04\x01", 5),          // an ACK
      std::string_view("\0\0\x06\x04\0\0\0\0\x01", 9),  // on stream 1
      std::string_view("\0\0\x07\x04\0\0\0\0\0", 9),    // no whole entries
      std::string_view("\0\0\x06\x05\0", 5),            // another type
      std::string_view("\x4a\0\0\0\x0a"
                       "5.5.5-10.6",
                       15),  // MySQL
  };
  auto& server = backend<RawBackend>();
  start();
  for (size_t i = 0; i < std::size(greetings); ++i) {
    Peer& app = raw_client();
    ASSERT_TRUE(until([&] { return server.connections.size() == i + 1; }));
    for (const char c : greetings[i]) {
      server.connections[i]->send({&c, 1});
      settle(1ms);
    }
    EXPECT_TRUE(until([&] { return app.received == greetings[i]; }, 2s)) << i;
  }
}

TEST_F(DetectTest, Http2IsBalancedAndTheDialledConnectionUsed) {
  auto& server = backend();
  start();
  Wire& app = client();
  StreamLog& call = app.unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_EQ(server.connections.size(), 1u);
  EXPECT_EQ(stats().upstream_connections_total.value(), 1u);
  EXPECT_EQ(stats().tcp_relays_total.value(), 0u);
  EXPECT_EQ(detected(Verdict::http2), 1u);
}

TEST_F(DetectTest, EachRpcGoesItsOwnWay) {
  Backend* servers[] = {&backend(), &backend(), &backend()};
  cluster.load_balancing = config::LoadBalancing::round_robin;
  start();
  Wire& app = client();
  for (int i = 0; i < 9; ++i) {
    StreamLog& call = app.unary();
    ASSERT_TRUE(until_complete(call));
  }
  for (const Backend* server : servers) EXPECT_EQ(server->request_count(), 3u);
  // Later ones don't dial before they have spoken: it is known what is spoken there.
  settle(20ms);
  const uint64_t dialled =
      servers[0]->connections.size() + servers[1]->connections.size() + servers[2]->connections.size();
  EXPECT_EQ(dialled, 3u);
  client();
  settle(50ms);
  EXPECT_EQ(servers[0]->connections.size() + servers[1]->connections.size() + servers[2]->connections.size(), dialled);
}

TEST_F(DetectTest, ServersSettingsThatComeFirstStayWithTheConnection) {
  auto& server = backend();
  start();
  Peer& silent = raw_client();
  ASSERT_TRUE(until([&] { return server.connections.size() == 1; }));
  settle(50ms);  // its SETTINGS are with the agent
  EXPECT_EQ(silent.received, "");
  Endpoint app(http2::Role::client);
  StreamLog& call = app.open();
  call.stream->send_headers(to_headers(http2::testing::grpc_request()), false);
  call.stream->send_data(slice_of("hello"), true);
  silent.send(app.output());
  ASSERT_TRUE(until([&] {
    app.input(std::exchange(silent.received, {}));
    silent.send(app.output());
    return complete(call);
  }));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_EQ(server.connections.size(), 1u);
}

TEST_F(DetectTest, SettingsOfAServerWhoseClientIsNotHttp2AreRelayed) {
  options.detection_timeout = 1h;
  auto& server = backend<RawBackend>();
  const std::string settings("\0\0\0\x04\0\0\0\0\0", 9);
  server.on_accept = [&](Peer& peer) { peer.send(settings); };
  start();
  Peer& app = raw_client();
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  settle(20ms);
  EXPECT_EQ(app.received, "");
  app.send("GET / HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(until([&] { return there->received == "GET / HTTP/1.1\r\n\r\n" && app.received == settings; }));
  EXPECT_EQ(detected(Verdict::http1), 1u);
}

// Their first bytes would otherwise pin a receive buffer each, of which a worker has some thousands.
TEST_F(DetectTest, ThoseThatMakeItWaitKeepNoReceiveBuffersFromOthers) {
  options.detection_timeout = 1h;
  auto& server = backend<RawBackend>();
  const std::string settings("\0\0\0\x04\0\0\0\0\0", 9);
  server.on_accept = [&](Peer& peer) { peer.send(settings); };
  start();
  constexpr size_t kMany = 400;
  for (size_t i = 0; i < kMany; ++i) raw_client().send("P");
  ASSERT_TRUE(until([&] { return server.connections.size() == kMany; }));
  settle(100ms);
  EXPECT_EQ(held_buffers(), 0u);
  EXPECT_EQ(stats().tcp_relays.value(), 0u);
}

// The same of bytes that wait for a connect, which may take long.
TEST_F(DetectTest, ThoseThatWaitForAnEndpointKeepNoReceiveBuffersFromOthers) {
  cluster.connection_pool.connect_timeout = 1h;
  FullListener full;
  add_endpoint(full.address());
  start();
  constexpr size_t kMany = 300;
  std::vector<Peer*> apps;
  for (size_t i = 0; i < kMany; ++i) apps.push_back(&raw_client());
  for (Peer* app : apps) app->send("x");
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == kMany; }));
  EXPECT_EQ(held_buffers(), 0u);
  EXPECT_EQ(memory(), int64_t{kMany});
}

TEST_F(DetectTest, LateBytesThatWaitForAnEndpointDoNotEither) {
  options.detection_timeout = 50ms;
  cluster.connection_pool.connect_timeout = 1h;
  FullListener full;
  add_endpoint(full.address());
  start();
  constexpr size_t kMany = 300;
  std::vector<Peer*> apps;
  for (size_t i = 0; i < kMany; ++i) apps.push_back(&raw_client());
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == kMany; }));
  for (Peer* app : apps) app->send(std::string(5000, 'y'));  // not copied for its size
  EXPECT_TRUE(until([&] { return memory() == int64_t{kMany} * 5000; }, 3s)) << memory();
  EXPECT_EQ(held_buffers(), 0u);
}

// What servers have said to clients that are silent is too much: those go that hold it, and once each.
TEST_F(DetectTest, ConnectionsThatAreNotDecidedYetAreShed) {
  options.detection_timeout = 1h;
  options.pod_limits.max_memory = 100'000;
  auto& server = backend<RawBackend>();
  const std::string settings = std::string("\0\0\0\x04\0\0\0\0\0", 9) + std::string(16'000, '\0');
  server.on_accept = [&](Peer& peer) { peer.send(settings); };
  start();
  std::vector<Peer*> apps;
  for (size_t i = 0; i < 10; ++i) apps.push_back(&raw_client());
  const auto left = [&] { return std::count_if(apps.begin(), apps.end(), [](Peer* p) { return !p->reset; }); };
  ASSERT_TRUE(until([&] { return left() == 6; }, 3s)) << left();
  EXPECT_EQ(stats().shed_connections.value(), 4u);
  EXPECT_TRUE(until([&] { return stats().transports.value() == 6; })) << gauges();
}

// Those that have become something else meanwhile hold nothing any more, though they still wait for their dial's end.
TEST_F(DetectTest, WhatWasHeldWhileItWasNotDecidedIsGivenBackAtOnce) {
  options.detection_timeout = 1h;
  options.pod_limits.max_memory = 90'000;
  auto& server = backend<RawBackend>();
  // With a frame of a type that nobody knows: the connection is fit for use.
  const std::string settings =
      http2::testing::frame(http2::FrameType::settings, 0, 0, "") +
      http2::testing::frame(static_cast<http2::FrameType>(0x20), 0, 0, std::string(16'000, 'u'));
  start();
  std::vector<Peer*> apps;
  for (size_t i = 0; i < 7; ++i) apps.push_back(&raw_client());
  ASSERT_TRUE(until([&] { return server.connections.size() == 7; }));
  for (size_t i = 0; i < 7; ++i) server.connections[i]->send(i < 5 ? settings : settings.substr(0, 1));
  const auto size = static_cast<int64_t>(settings.size());
  ASSERT_TRUE(until([&] { return memory() == 5 * size + 2; })) << memory();
  // In one turn five clients say what they speak, and two others' servers the rest; the first one's connection is used.
  std::promise<void> go, stopped;
  worker().reactor().post([waiting = go.get_future().share(), &stopped] {
    stopped.set_value();
    waiting.wait();
  });
  stopped.get_future().wait();
  for (size_t i = 0; i < 5; ++i) apps[i]->send(std::string(http2::kPreface) + settings.substr(0, 9));
  settle(10ms);
  for (size_t i = 5; i < 7; ++i) server.connections[i]->send(settings.substr(1));
  settle(10ms);
  go.set_value();
  EXPECT_TRUE(until([&] { return stats().downstream_connections.value() == 5 && memory() >= 2 * size; }));
  EXPECT_EQ(stats().shed_connections.value(), 0u);
}

TEST_F(DetectTest, SilenceOnBothSidesBecomesARelay) {
  options.detection_timeout = 50ms;
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 1; }));
  EXPECT_EQ(detected(Verdict::silent), 1u);
  app.send("at last");
  ASSERT_TRUE(until([&] { return server.connections.size() == 1 && server.connections[0]->received == "at last"; }));
  server.connections[0]->send("yes");
  ASSERT_TRUE(until([&] { return app.received == "yes"; }));
}

TEST_F(DetectTest, EndsAreCarriedOverFromEitherSideBeforeAnyWord) {
  options.detection_timeout = 1h;
  auto& server = backend<RawBackend>();
  start();
  struct Case {
    const char* name;
    std::function<void(Peer& app, Peer& there)> act;
    std::function<bool(const Peer& app, const Peer& there)> expected;
  };
  const Case cases[] = {
      {"FIN of the client, then an answer",
       [&](Peer& app, Peer& there) {
         app.finish_sending();
         EXPECT_TRUE(until([&] { return there.ended; }));
         there.send("the time is now");
         there.finish_sending();
       },
       [](const Peer& app, const Peer& there) {
         return app.received == "the time is now" && app.ended && there.ended;
       }},
      {"FIN of the server, then a word of the client",
       [&](Peer& app, Peer& there) {
         there.finish_sending();
         EXPECT_TRUE(until([&] { return app.ended; }));
         app.send("discard me");
         app.finish_sending();
       },
       [](const Peer&, const Peer& there) { return there.received == "discard me" && there.ended; }},
      {"RST of the client", [](Peer& app, Peer&) { app.abort(); },
       [](const Peer&, const Peer& there) { return there.reset; }},
      {"RST of the server", [](Peer&, Peer& there) { there.abort(); },
       [](const Peer& app, const Peer&) { return app.reset; }},
  };
  for (size_t i = 0; i < std::size(cases); ++i) {
    Peer& app = raw_client();
    ASSERT_TRUE(until([&] { return server.connections.size() == i + 1; })) << cases[i].name;
    Peer& there = *server.connections[i];
    settle(10ms);
    cases[i].act(app, there);
    EXPECT_TRUE(until([&] { return cases[i].expected(app, there); }, 3s)) << cases[i].name;
  }
}

TEST_F(DetectTest, EndpointsThatRefuseAreLeftForOthers) {
  add_endpoint(loopback(closed_port()));
  add_endpoint(loopback(closed_port()));
  auto& server = backend<RawBackend>();
  server.on_accept = [](Peer& peer) { peer.send("220 mail"); };
  start();
  for (int i = 0; i < 6; ++i) {
    Peer& app = raw_client();
    ASSERT_TRUE(until([&] { return app.received == "220 mail"; })) << i;
  }
}

TEST_F(DetectTest, RefusalOfEveryEndpointResetsTheClient) {
  add_endpoint(loopback(closed_port()));
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return app.reset; }));
  EXPECT_TRUE(relay_ended_with(Flag::UF));
}

TEST_F(DetectTest, ClientThatSpeaksWhileTheConnectIsUnderWay) {
  cluster.connection_pool.connect_timeout = 200ms;
  FullListener full;
  add_endpoint(full.address());
  start();
  Peer& app = raw_client();
  app.send("hello there");
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 1; }));
  Wire& http2 = client();
  StreamLog& call = http2.unary();
  EXPECT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_TRUE(until([&] { return app.reset; }));
}

TEST_F(DetectTest, ConnectionsOfTheClusterAreLimited) {
  cluster.connection_pool.max_connections = 2;
  auto& server = backend<RawBackend>();
  start();
  Peer& first = raw_client();
  Peer& second = raw_client();
  ASSERT_TRUE(until([&] { return server.connections.size() == 2; }));
  Peer& third = raw_client();
  settle(20ms);
  EXPECT_FALSE(third.reset) << "it may turn out to share a connection";
  third.send("x yz");
  ASSERT_TRUE(until([&] { return third.reset; }));
  first.send("x yz");
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 1; }));
  first.abort();
  ASSERT_TRUE(until([&] { return stats().tcp_relays.value() == 0; }));
  raw_client();
  EXPECT_TRUE(until([&] { return server.connections.size() == 3; }));
  second.abort();
}

TEST_F(DetectTest, Http2ClientsOfAClusterWithOneConnectionShareIt) {
  cluster.connection_pool.max_connections = 1;
  auto& server = backend();
  start();
  Peer& first = raw_client();
  ASSERT_TRUE(until([&] { return server.connections.size() == 1; }));
  Wire& second = client();
  StreamLog& call = second.unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
  first.close();
  StreamLog& next = client().unary();
  ASSERT_TRUE(until_complete(next));
  EXPECT_EQ(grpc_status(next), 0);
}

// One whose endpoint refused has given its place back meanwhile.
TEST_F(DetectTest, ConnectionsOfTheClusterAreLimitedAlsoAfterARefusal) {
  mode = config::Mode::tcp;
  cluster.connection_pool.max_connections = 1;
  for (int i = 0; i < 2; ++i) add_endpoint(loopback(closed_port()));
  auto& server = backend<RawBackend>();
  start();
  const SlowTurns slow(*this, 2ms);
  for (int round = 0; round < 100; ++round) {
    raw_client();
    settle(1ms);
    EXPECT_LE(server.open_connections(), 1u);
  }
  EXPECT_GE(server.open_connections(), 1u);
}

TEST_F(DetectTest, RelaysEndWhenTheyAreIdleOrOld) {
  auto& server = backend<RawBackend>();
  server.on_accept = [](Peer& peer) { peer.send("220 mail"); };
  cluster.connection_pool.tcp_idle_timeout = 100ms;
  start();
  Peer& idle = raw_client();
  ASSERT_TRUE(until([&] { return idle.received == "220 mail"; }));
  EXPECT_TRUE(until([&] { return idle.ended; }, 5s));
  EXPECT_TRUE(until([&] { return relay_ended_with(Flag::SI); }));
  cluster.connection_pool.tcp_idle_timeout = 0s;
  cluster.connection_pool.max_connection_duration = 1500ms;
  apply();
  Peer& busy = raw_client();
  const base::Instant begun = base::MonotonicClock::now();
  EXPECT_TRUE(until(
      [&] {
        if (!busy.ended && !busy.reset) busy.send("x");
        return busy.ended || busy.reset;
      },
      5s));
  EXPECT_GE(base::MonotonicClock::now() - begun, 1500ms);
  EXPECT_TRUE(until([&] { return relay_ended_with(Flag::DT); }));
}

TEST_F(DetectTest, DeclaredTcpIsRelayedWithoutALook) {
  mode = config::Mode::tcp;
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  ASSERT_NE(arrival(server), nullptr);
  EXPECT_EQ(stats().tcp_relays_total.value(), 1u);
  Endpoint http2(http2::Role::client);
  const std::string preface = http2.output();
  app.send(preface);
  EXPECT_TRUE(until([&] { return server.connections[0]->received == preface; }));
}

}  // namespace
}  // namespace weir::proxy::testing
