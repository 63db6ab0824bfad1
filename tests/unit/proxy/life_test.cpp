// The end of things: drain, its limit, pods that go, a worker that stops.
#include "lab.h"

namespace weir::proxy::testing {
namespace {

void hold(StreamLog&) {}

struct LifeTest : Lab {
  static bool goaway(const Wire& app) { return !app.endpoint.connection.usable(); }
};

TEST_F(LifeTest, DrainLetsRunningCallsFinishAndThenClosesTheConnection) {
  auto& server = backend(hold);
  start();
  Wire& app = client();
  Wire& idle = client();
  StreamLog& running = app.unary("running");
  ASSERT_TRUE(until([&] { return server.request_count() == 1 && stats().downstream_connections.value() == 2; }));
  worker().drain();
  ASSERT_TRUE(until([&] { return goaway(app) && idle.ended; }));
  EXPECT_FALSE(complete(running));
  EXPECT_FALSE(app.ended);
  EXPECT_FALSE(worker().drained());
  EXPECT_FALSE(connect_to(listener_address));  // nothing listens any more

  echo(*server.only_request());
  ASSERT_TRUE(until([&] { return complete(running) && app.ended; }));
  EXPECT_EQ(grpc_status(running), 0);
  EXPECT_EQ(running.body, "running");
  EXPECT_FALSE(app.reset);
  EXPECT_FALSE(worker().drained());  // the applications have not closed their ends yet
  app.close();
  idle.close();
  EXPECT_TRUE(until([&] { return worker().drained(); }, 300ms)) << "seen at once, not by the next tick";
}

TEST_F(LifeTest, CallThatIsOnItsWayWhenTheDrainBeginsIsServed) {
  backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(app.unary()));
  worker().drain();
  StreamLog& call = app.unary();  // GOAWAY has not been read yet
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_TRUE(until([&] { return app.ended && worker().drained(); }, 3s));
}

TEST_F(LifeTest, ConnectionWhoseFirstBytesComeDuringTheDrainIsServedAndClosed) {
  backend();
  start();
  Peer& raw = raw_client();
  ASSERT_TRUE(until([&] { return stats().transports.value() == 1; }));
  worker().drain();
  settle(20ms);
  Endpoint app(http2::Role::client);
  StreamLog& call = app.open();
  call.stream->send_headers(to_headers(http2::testing::grpc_request()), true);
  ASSERT_TRUE(until([&] {
    raw.send(app.output());
    app.input(std::exchange(raw.received, {}));
    return raw.ended;
  }));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_TRUE(until([&] { return worker().drained(); }, 3s));
}

TEST_F(LifeTest, AtTheDrainLimitCallsEndAsUnavailableAndRelaysAreCut) {
  auto& server = backend(hold);
  auto& raw = backend<RawBackend>();
  remove_endpoint(raw.address());
  start();
  Wire& app = client();
  StreamLog& waiting = app.unary();
  StreamLog& begun = app.unary();
  ASSERT_TRUE(until([&] { return server.request_count() == 2; }));
  server.requests()[1]->stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}),
                                             false);
  ASSERT_TRUE(until([&] { return !waiting.heads.empty() || !begun.heads.empty(); }));
  cluster.endpoints.clear();
  add_endpoint(raw.address());
  apply();
  Peer& relayed = raw_client();
  relayed.send("something else");
  ASSERT_TRUE(until([&] { return raw.connections.size() == 1; }));
  Peer& undecided = raw_client();
  ASSERT_TRUE(until([&] { return stats().transports.value() == 4; })) << gauges();

  worker().drain();
  settle(20ms);
  EXPECT_FALSE(complete(waiting) || complete(begun));
  worker().abort_all();
  ASSERT_TRUE(until([&] { return complete(waiting) && complete(begun) && app.ended; }));
  EXPECT_EQ(grpc_status(waiting), 14);
  EXPECT_EQ(grpc_status(begun), 14);
  EXPECT_TRUE(until([&] { return relayed.reset && (undecided.reset || undecided.ended); }));
  EXPECT_TRUE(until([&] { return worker().drained(); }, 3s));
  EXPECT_TRUE(recorded_becomes("200 grpc 14 LR x2"));
  EXPECT_TRUE(until([&] { return relay_ended_with(telemetry::Flag::LR); }));
  for (StreamLog* request : server.requests()) EXPECT_TRUE(request->reset);
}

TEST_F(LifeTest, PodThatGoesTakesAllItsConnectionsWithIt) {
  auto& server = backend(hold);
  auto& silent = backend<RawBackend>();
  remove_endpoint(silent.address());
  start();
  Wire& app = client();
  for (int i = 0; i < 10; ++i) app.unary();
  ASSERT_TRUE(until([&] { return server.request_count() == 10; }));
  cluster.endpoints.clear();
  add_endpoint(silent.address());
  apply();
  app.unary();  // waits for a connection
  Peer& relayed = raw_client();
  relayed.send("something else");
  Peer& undecided = raw_client();
  ASSERT_TRUE(until([&] { return silent.connections.size() == 2 && stats().transports.value() == 5; })) << gauges();

  worker().remove_source("client-uid");
  Peer late(connect_to(listener_address));  // into the accept queue, or too late for it
  ASSERT_TRUE(until([&] { return stats().transports.value() == 0; })) << gauges();
  // When a listener goes while a handshake ends, Linux (6.18) may leave the client connected to nothing. Its first byte
  // is answered by a reset.
  if (late.open()) late.send("x");
  const auto is_over = [](const Peer& peer) { return !peer.open() || peer.ended || peer.reset; };
  EXPECT_TRUE(until([&] {
    late.pump();
    return is_over(app) && is_over(relayed) && is_over(undecided) && is_over(late);
  })) << is_over(app)
      << is_over(relayed) << is_over(undecided) << is_over(late);
  EXPECT_EQ(stats().active_rpcs.value(), 0u);
  EXPECT_EQ(stats().sources.value(), 0u);
  EXPECT_TRUE(until([&] { return source_gone(); }, 3s));
  EXPECT_TRUE(until([&] { return server.open_connections() == 0; }));
}

TEST_F(LifeTest, PodThatIsEnrolledAgainReplacesItself) {
  backend();
  start();
  Wire& before = client();
  ASSERT_TRUE(until_complete(before.unary()));
  enrol();
  ASSERT_TRUE(until([&] { return before.ended || before.reset; }));
  Wire& after = client();
  StreamLog& call = after.unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_EQ(stats().sources.value(), 1u);
}

TEST_F(LifeTest, ConnectionThatWasNotDivertedIsClosed) {
  backend();
  options.original_destination = [](int) { return std::nullopt; };
  start();
  Peer& app = raw_client();
  ASSERT_TRUE(until([&] { return app.ended || app.reset; }));
  EXPECT_EQ(stats().undiverted_accepts.value(), 1u);
}

TEST_F(LifeTest, UpstreamSocketThatCannotBeMarkedFailsTheCall) {
  auto& server = backend();
  options.mark_upstream = [](int) -> base::Result<void> { return base::Error{"no room in the map"}; };
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_EQ(server.connections.size(), 0u);
}

// The destructor's message and the end of the thread that it asks for.
TEST_F(LifeTest, WorkersStartAndStopInAnyState) {
  auto& server = backend(hold);
  start();
  for (int round = 0; round < 20; ++round) {
    const auto recorder = make_recorder();
    auto other = Worker::start(options, *recorder, snapshot());
    ASSERT_TRUE(other);
    auto listening = listen_on_loopback();
    const auto address = address_of(listening.get());
    (*other)->add_source(enrolled_pod("other", std::move(listening)));
    Wire app(connect_to(address), http2::Role::client);
    ASSERT_TRUE(app.open());
    app.unary();
    if (round % 2 == 0) {
      ASSERT_TRUE(until([&] { return app.pump(), server.request_count() == static_cast<size_t>(round) / 2 + 1; }));
    } else {
      app.pump();
    }
    other->reset();
    EXPECT_TRUE(until([&] { return app.pump(), app.ended || app.reset; }));
  }
  EXPECT_TRUE(until([&] { return server.open_connections() == 0; }));
}

}  // namespace
}  // namespace weir::proxy::testing
