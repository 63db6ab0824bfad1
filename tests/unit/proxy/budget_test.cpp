// What one pod may hold of an agent that many share, and how it is refused more: connections, RPCs, memory, peers
// that read nothing, turns of the worker, and what is given back afterwards.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

using ::testing::HasSubstr;

struct BudgetTest : Lab {
  // Adds a pod to the worker; connect to the address returned.
  base::SocketAddress enrol_other(std::string uid) {
    auto listening = listen_on_loopback();
    const base::SocketAddress address = address_of(listening.get());
    worker().add_source(enrolled_pod(std::move(uid), std::move(listening)));
    return address;
  }
  static void never(StreamLog&) {}
  // A response as large as its request says ("4096"); it is not read by the client unless the test reads.
  static void answer_at_length(StreamLog& log) {
    if (!log.stream || !log.ended || log.sent > 0 || !log.stream->all_sent()) return;
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.stream->send_data(slice_of(std::string(std::stoul(log.body), 'r')), false);
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
    log.sent = 1;
  }
};

TEST_F(BudgetTest, ConnectionsBeyondTheLimitAreResetAndThoseThatRunGoOn) {
  options.pod_limits.max_connections = 3;
  backend();
  start();
  std::vector<Wire*> apps;
  for (int i = 0; i < 3; ++i) apps.push_back(&client());
  for (Wire* app : apps) ASSERT_TRUE(until_complete(app->unary()));
  for (int i = 0; i < 5; ++i) {
    base::Fd socket = connect_to(listener_address);
    if (!socket) {
      EXPECT_EQ(errno, ECONNRESET) << "the RST may come before connect() returns";
      continue;
    }
    Peer& refused = raw_client(std::move(socket));
    ASSERT_TRUE(until([&] { return refused.reset || refused.ended; }));
    EXPECT_EQ(refused.received, "");
  }
  EXPECT_EQ(stats().refused_connections.value(), 5u);
  for (Wire* app : apps) {
    StreamLog& call = app->unary();
    ASSERT_TRUE(until_complete(call));
    EXPECT_EQ(grpc_status(call), 0);
  }
  // One that leaves makes room, and another pod had it all the time.
  const auto other = enrol_other("other-uid");
  Wire& neighbour = add_client_at(other);
  ASSERT_TRUE(until_complete(neighbour.unary()));
  apps[0]->close();
  ASSERT_TRUE(until([&] { return stats().downstream_connections.value() == 3; }));
  Wire& next = client();
  ASSERT_TRUE(until_complete(next.unary()));
  EXPECT_EQ(stats().refused_connections.value(), 5u);
  worker().remove_source("other-uid");
}

TEST_F(BudgetTest, WhenSocketsAreFewNewConnectionsAreResetAndEachPodHasItsShare) {
  options.max_sockets = 24;  // sixteen before nothing is accepted any more, and three to be shared
  backend();
  start();
  std::vector<Wire*> apps{&client()};
  ASSERT_TRUE(until_complete(apps[0]->unary()));  // now there is one to the endpoint
  for (int i = 0; i < 14; ++i) apps.push_back(&client());
  ASSERT_TRUE(until([&] { return stats().transports.value() == 16; })) << gauges();
  const auto other = enrol_other("other-uid");
  auto is_refused = [&](const base::SocketAddress& address) {
    base::Fd socket = connect_to(address);
    if (!socket) return true;  // the RST came before connect() returned
    Peer& peer = raw_client(std::move(socket));
    return until([&] { return peer.reset || peer.ended; });
  };
  EXPECT_TRUE(is_refused(listener_address));
  EXPECT_EQ(stats().refused_sockets.value(), 1u);
  Wire& neighbour = add_client_at(other);
  ASSERT_TRUE(until_complete(neighbour.unary()));
  EXPECT_EQ(stats().refused_sockets.value(), 1u);
  EXPECT_TRUE(is_refused(other));
  EXPECT_EQ(stats().refused_sockets.value(), 2u);
  for (Wire* app : apps) ASSERT_TRUE(until_complete(app->unary()));
  // Three that leave make room for one.
  for (int i = 1; i < 4; ++i) apps[i]->close();
  ASSERT_TRUE(until([&] { return stats().transports.value() < 16; })) << gauges();
  ASSERT_TRUE(until_complete(client().unary()));
  EXPECT_EQ(stats().refused_sockets.value(), 2u);
  worker().remove_source("other-uid");
}

TEST_F(BudgetTest, WithoutASocketToDialAnRpcIsUnavailable) {
  options.max_sockets = 3;
  backend();
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_THAT(grpc_message(call), HasSubstr("too few descriptors"));
  EXPECT_TRUE(recorded_becomes("200 grpc 14 OM x1"));
  EXPECT_EQ(stats().refused_sockets.value(), 1u);
}

TEST_F(BudgetTest, RpcsBeyondTheLimitAreUnavailableWithFlagOM) {
  options.pod_limits.max_streams = 4;
  auto& silent = backend(never);
  start();
  Wire& first = client();
  Wire& second = client();
  for (int i = 0; i < 4; ++i) (i % 2 == 0 ? first : second).unary();
  ASSERT_TRUE(until([&] { return silent.request_count() == 4; }));
  StreamLog& refused = second.unary();
  ASSERT_TRUE(until_complete(refused));
  EXPECT_TRUE(trailers_only(refused));
  EXPECT_EQ(grpc_status(refused), 14);
  EXPECT_THAT(grpc_message(refused), HasSubstr("too many RPCs"));
  EXPECT_TRUE(recorded_becomes("200 grpc 14 OM x1"));
  EXPECT_EQ(stats().refused_streams.value(), 1u);
  EXPECT_EQ(silent.request_count(), 4u);
  // Those that end make room.
  first.close();
  ASSERT_TRUE(until([&] { return stats().active_rpcs.value() == 2; }));
  second.unary();
  EXPECT_TRUE(until([&] { return silent.request_count() == 5; }));
}

class ShedTest : public BudgetTest {
 protected:
  // Of a modest and a greedy connection, which hold more than 600,000 bytes together.
  void expect_the_greedy_one_is_shed(proxy::Counter proxy::WorkerStats::*counter);
};

void ShedTest::expect_the_greedy_one_is_shed(proxy::Counter proxy::WorkerStats::*counter) {
  auto& slow = backend(never);
  slow.consume_at_once = false;  // grants no window beyond the first
  start();
  Wire& modest = client();
  Wire& greedy = client();
  StreamLog& kept = modest.unary(std::string(70'000, 'm'));
  ASSERT_TRUE(until([&] { return slow.request_count() == 1; }));
  for (int i = 0; i < 12; ++i) greedy.unary(std::string(150'000, 'g'));
  ASSERT_TRUE(until([&] { return greedy.reset || greedy.ended; }));
  EXPECT_EQ((stats().*counter).value(), 1u);
  EXPECT_EQ(stats().shed_connections.value() + stats().shed_for_agent.value(), 1u);
  EXPECT_TRUE(until([&] { return stats().active_rpcs.value() == 1; })) << gauges();
  EXPECT_THAT(recorded(), HasSubstr(" OM x"));
  EXPECT_FALSE(complete(kept));
  echo(*slow.requests().at(0));
  modest.close();
  EXPECT_TRUE(until([&] { return stats().active_rpcs.value() == 0; }));
  EXPECT_TRUE(until([&] { return memory() == 0; }, 3s)) << memory();
}

TEST_F(ShedTest, WhenAPodHoldsTooMuch) {
  options.pod_limits.max_memory = 600'000;
  expect_the_greedy_one_is_shed(&proxy::WorkerStats::shed_connections);
}

TEST_F(ShedTest, WhenAllPodsTogetherHoldTooMuch) {
  options.max_memory = 600'000;
  expect_the_greedy_one_is_shed(&proxy::WorkerStats::shed_for_agent);
}

TEST_F(BudgetTest, WhatIsHeldIsCountedAndGivenBack) {
  auto& serving = backend(answer_at_length);
  start();
  Wire& app = client();
  app.reading = false;
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 10; ++i) calls.push_back(&app.unary("1000000"));
  ASSERT_TRUE(until([&] { return serving.request_count() == 10; }));
  ASSERT_TRUE(until([&] { return memory() > 1'000'000; })) << memory();
  app.reading = true;
  ASSERT_TRUE(until_complete(calls));
  for (const StreamLog* call : calls) EXPECT_EQ(call->body.size(), 1'000'000u);
  EXPECT_TRUE(until([&] { return memory() == 0; }, 3s)) << memory();
}

TEST_F(BudgetTest, AClientThatReadsNothingIsClosed) {
  options.send_timeout = 1s;
  backend(answer_at_length);
  start();
  // Large windows and no reading: all of it is framed, none of it leaves.
  http2::Limits wide;
  wide.initial_stream_window = wide.connection_window = 64 << 20;
  Wire& deaf = client(wide);
  StreamLog& small = deaf.unary("100");
  ASSERT_TRUE(until_complete(small));
  deaf.reading = false;
  deaf.unary("30000000");
  ASSERT_TRUE(until([&] { return stats().stalled_downstreams.value() == 1; }, 8s));
  EXPECT_TRUE(until([&] { return stats().downstream_connections.value() == 0; }));
  EXPECT_TRUE(recorded_becomes("200 grpc -1 DC x1; 200 grpc 0 - x1")) << recorded();
}

TEST_F(BudgetTest, AClientThatOpensItsWindowSlowlyIsNot) {
  options.send_timeout = 1s;
  backend(answer_at_length);
  start();
  http2::Limits narrow;
  narrow.initial_stream_window = 1000;
  Wire& careful = client(narrow);
  careful.endpoint.consume_at_once = false;
  StreamLog& call = careful.unary("100000");
  settle(3500ms);
  EXPECT_FALSE(complete(call));
  EXPECT_EQ(stats().stalled_downstreams.value(), 0u);
  EXPECT_FALSE(careful.ended || careful.reset);
}

TEST_F(BudgetTest, AnEndpointThatReadsNothingIsClosedAndItsRpcsFail) {
  options.send_timeout = 1s;
  auto& deaf = backend<RawBackend>();
  deaf.on_accept = [](Peer& peer) {
    // SETTINGS with the largest windows, and a WINDOW_UPDATE: everything may be framed.
    peer.send(http2::testing::frame(http2::FrameType::settings, 0, 0, std::string("\0\4\x7f\xff\xff\xff", 6)) +
              http2::testing::frame(http2::FrameType::window_update, 0, 0, http2::testing::u32_text(0x7f000000)));
    peer.reading = false;
  };
  start();
  StreamLog& call = client().unary(std::string(30'000'000, 'u'));
  ASSERT_TRUE(until([&] { return stats().stalled_upstreams.value() == 1; }, 8s));
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UC x1")) << recorded();
}

TEST_F(BudgetTest, ABackendOfEndless1xxResponsesIsUnavailableWithFlagUPE) {
  auto& babbling = backend([](StreamLog& log) {
    if (!log.stream || log.sent > 0) return;
    log.sent = 1;
    for (int i = 0; i < 100 && log.stream; ++i) log.stream->send_headers(to_headers({{":status", "103"}}), false);
  });
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_EQ(call.heads.size(), 17u);
  EXPECT_EQ(babbling.request_count(), 1u);
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UPE x1"));
}

TEST_F(BudgetTest, TinyPiecesOfABodyPinNoReceiveBuffers) {
  options.reactor.max_receive_buffers = 512;
  auto& silent = backend(never);
  start();
  Wire& app = client();
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 100; ++i) calls.push_back(&app.call());
  ASSERT_TRUE(until([&] { return silent.request_count() == 100; }));
  // Each byte arrives in a receive of its own and is kept, to be sent again if it must.
  for (int round = 0; round < 10; ++round) {
    for (StreamLog* call : calls) {
      call->stream->send_data(slice_of("x"), false);
      pump();
    }
  }
  settle();
  EXPECT_LT(on_worker([this] { return worker().reactor().buffers().held(); }), 20u);
}

TEST_F(BudgetTest, ABusyPodDoesNotDelayAnother) {
  backend();
  start();
  const auto quiet_address = enrol_other("quiet-uid");
  Wire& busy = client();
  Wire& quiet = add_client_at(quiet_address);
  ASSERT_TRUE(until_complete(busy.unary()));
  ASSERT_TRUE(until_complete(quiet.unary()));
  // Nine hundred requests are in the one's socket when the other's single one comes.
  std::vector<StreamLog*> many;
  std::promise<void> go = stop_worker();
  for (int i = 0; i < 900; ++i) many.push_back(&busy.unary());
  StreamLog& one = quiet.unary();
  for (int i = 0; i < 50; ++i) pump();
  const SlowTurns slow(*this, 5ms);
  go.set_value();
  ASSERT_TRUE(until_complete(one));
  EXPECT_LT(std::count_if(many.begin(), many.end(), [](const StreamLog* call) { return complete(*call); }), 450);
  ASSERT_TRUE(until_complete(many));
  worker().remove_source("quiet-uid");
}

TEST_F(BudgetTest, WhatWaitedForALaterTurnIsServedBeforeTheConnectionsEnd) {
  backend();
  start();
  enrol_other("other-uid");
  Wire& app = client();
  ASSERT_TRUE(until_complete(app.unary()));
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 500; ++i) calls.push_back(&app.unary(std::to_string(i)));
  ASSERT_TRUE(until_complete(calls));
  for (size_t i = 0; i < calls.size(); ++i) EXPECT_EQ(calls[i]->body, std::to_string(i));
  worker().remove_source("other-uid");
}

TEST_F(BudgetTest, OutOfDescriptorsNewConnectionsAreResetAndThoseThatRunGoOn) {
  backend();
  start();
  Wire& running = client();
  ASSERT_TRUE(until_complete(running.unary()));
  // The clients of this process come first: their connects wait in the listener's queue.
  std::vector<Peer*> late;
  std::promise<void> go = stop_worker();
  for (int i = 0; i < 20; ++i) late.push_back(&raw_client());
  // UBSan looks at a type for the first time by means of a pipe, for which there will be no descriptors.
  settle(10ms);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit few{open_descriptors() + 16, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  std::vector<base::Fd> rest;
  for (base::Fd fd(dup(0)); fd; fd = base::Fd(dup(0))) rest.push_back(std::move(fd));
  const uint64_t turns = stats().turns.value();
  go.set_value();
  StreamLog& call = running.unary();
  EXPECT_TRUE(
      until([&] { return std::all_of(late.begin(), late.end(), [](Peer* p) { return p->reset || p->ended; }); }));
  EXPECT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
  settle(300ms);
  EXPECT_LT(stats().turns.value() - turns, 400u) << "the listener spins";
  EXPECT_GE(stats().accept_failures.value(), 20u);
  setrlimit(RLIMIT_NOFILE, &before);
  rest.clear();
  Wire& again = client();
  ASSERT_TRUE(until_complete(again.unary()));
}

TEST_F(BudgetTest, MemoryOfABurstIsGivenBack) {
  auto& silent = backend(never);
  start();
  std::vector<Wire*> apps;
  for (int i = 0; i < 5; ++i) apps.push_back(&client());
  for (Wire* app : apps)
    for (int i = 0; i < 400; ++i) app->unary();
  ASSERT_TRUE(until([&] { return silent.request_count() == 2000; })) << gauges();
  for (Wire* app : apps) app->close();
  ASSERT_TRUE(until([&] { return stats().active_rpcs.value() == 0; }));
  const auto kept = [this] { return on_worker([this] { return worker().exchanges().kept(); }); };
  EXPECT_GE(kept(), 500u);
  EXPECT_TRUE(until([&] { return kept() < 50; }, 15s)) << kept();
}

}  // namespace
}  // namespace weir::proxy::testing
