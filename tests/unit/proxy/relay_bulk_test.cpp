// Relayed connections that carry much: every byte in its place, however it is passed on; a slow reader holds up the
// sender; ends come after what was said before them.
#include "lab.h"

namespace weir::proxy::testing {
namespace {

std::string text_of_size(size_t size) {
  std::string text;
  text.reserve(size + 8);
  for (uint32_t i = 0; text.size() < size; ++i) text.append(reinterpret_cast<const char*>(&i), sizeof i);
  text.resize(size);
  return text;
}

// Of a port that declares HTTP/2 all is copied where its sockets are in a sockmap; of others bulk is spliced.
struct RelayBulkTest : Lab, ::testing::WithParamInterface<config::Mode> {
  RelayBulkTest() {
    mode = GetParam();
    options.keep_on_tcp = [](int) { return true; };
  }
  // The one connection that reached `server`.
  Peer* arrival(RawBackend& server) {
    EXPECT_TRUE(until([&] { return server.connections.size() == 1; }));
    return server.connections.empty() ? nullptr : server.connections[0].get();
  }
  // To an application that does not read, until the relay receives no more of it.
  std::string say_until_held_up(Peer& there) {
    std::string said;
    const std::string part = text_of_size(8192);
    int64_t held = 0;
    for (int rounds_full = 0; rounds_full < 5 && said.size() < (40u << 20);) {
      said += part;
      there.send(part);
      settle(1ms);
      rounds_full = memory() > 0 && memory() == held ? rounds_full + 1 : 0;
      held = memory();
    }
    EXPECT_TRUE(until([&] { return there.to_send.empty(); }, 1s));
    return said;
  }
  bool splices() const { return mode != config::Mode::l7; }
  uint64_t spliced() const { return stats().tcp_spliced_bytes.value(); }
  uint32_t pipes() {
    return on_worker([this] { return worker().pipes().in_use(); });
  }
};

TEST_P(RelayBulkTest, TenMegabytesEachWayArriveIntactThoughReadersAreSlow) {
  auto& server = backend<RawBackend>();
  start();
  const std::string up = "\x16" + text_of_size(10u << 20), down = text_of_size((10u << 20) - 1);
  Peer& app = raw_client();
  app.read_limit = 200 * 1024;
  app.to_send = up;
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  there->read_limit = 300 * 1024;
  there->to_send = down;
  ASSERT_TRUE(until([&] { return app.total_read == down.size() && there->total_read == up.size(); }, 30s));
  EXPECT_TRUE(app.received == down);
  EXPECT_TRUE(there->received == up);
  EXPECT_LE(receive_buffers(), 256u + 64);
  if (splices())
    EXPECT_GT(spliced(), (up.size() + down.size()) / 2);
  else
    EXPECT_EQ(spliced(), 0u);
  EXPECT_EQ(pipes(), 0u);
}

TEST_P(RelayBulkTest, WhatIsNotRedirectedIsSplicedWhateverItsPortDeclares) {
  options.keep_on_tcp = [](int) { return false; };
  auto& server = backend<RawBackend>();
  start();
  const std::string bulk = "\x16" + text_of_size(4u << 20);
  raw_client().to_send = bulk;
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  ASSERT_TRUE(until([&] { return there->received == bulk; }, 30s));
  EXPECT_GT(spliced(), bulk.size() / 2);
}

// Nothing is received while the other end reads nothing; a reset is heard all the same.
TEST_P(RelayBulkTest, ResetOfASenderThatIsHeldUpIsCarriedOver) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.reading = false;
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  there->to_send = text_of_size(40u << 20);
  settle(300ms);
  ASSERT_GT(there->to_send.size(), 0u);
  there->abort();
  EXPECT_TRUE(until([&] { return app.error() == ECONNRESET; }, 6s));
}

// Both ends have sent FIN, and what one said waits for the other: nothing is broken.
TEST_P(RelayBulkTest, EndsOfBothAreNoReset) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.reading = false;
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  app.finish_sending();
  const std::string said = say_until_held_up(*there);
  ASSERT_TRUE(until([&] { return there->ended; }));
  there->finish_sending();
  settle(2500ms);
  EXPECT_EQ(app.error(), 0);
  EXPECT_EQ(there->error(), 0);
  app.reading = true;
  ASSERT_TRUE(until([&] { return app.ended || app.reset; }));
  EXPECT_FALSE(app.reset);
  EXPECT_TRUE(app.received == said);
}

// What one end said before its reset, and the agent took, the other can still read.
TEST_P(RelayBulkTest, WhatCameBeforeTheResetIsPassedOn) {
  auto& server = backend<RawBackend>();
  start();
  Peer& app = raw_client();
  app.reading = false;
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  const std::string said = say_until_held_up(*there);
  there->abort();
  settle(100ms);
  app.reading = true;
  ASSERT_TRUE(until([&] { return app.reset || app.ended; }, 5s));
  EXPECT_TRUE(app.reset);
  EXPECT_EQ(app.received.size(), said.size());
}

// A server that has answered before it has read everything: the client's next bytes are refused, its answer counts.
TEST_P(RelayBulkTest, AnswerOfAServerThatDoesNotListenIsPassedOn) {
  auto& server = backend<RawBackend>();
  start();
  const SlowTurns slow(*this, 5ms);
  const std::string answer = text_of_size(60'000);
  for (int round = 0; round < 20; ++round) {
    Peer& app = raw_client();
    app.send("x y z");
    ASSERT_TRUE(until([&] { return server.connections.size() == static_cast<size_t>(round) + 1; }));
    Peer& there = *server.connections.back();
    ASSERT_TRUE(until([&] { return there.received == "x y z"; }));
    there.reading = false;
    there.send(answer);
    app.send("more");
    usleep(500);
    app.send("and more");
    there.abort();
    ASSERT_TRUE(until([&] { return app.reset || app.ended; }));
    EXPECT_EQ(app.received.size(), answer.size()) << round;
    app.close();
  }
}

// A chunk that comes while the one before is being sent must not overtake it.
TEST_P(RelayBulkTest, ChunksOfAllSizesArriveInOrder) {
  auto& server = backend<RawBackend>();
  start();
  const std::string whole = text_of_size(4u << 20);
  Peer& app = raw_client();
  size_t at = 0, expected = 0;
  Peer* there = nullptr;
  for (size_t size = 1; at < whole.size(); size = size * 3 % 200'003 + 1) {  // below and above every buffer's size
    const std::string_view part = std::string_view(whole).substr(at, size);
    app.send(part);
    at += part.size();
    if (size % 5 != 0) continue;
    expected = at;
    ASSERT_TRUE(there || (there = arrival(server)));
    ASSERT_TRUE(until([&] { return there->received.size() == expected; }));
  }
  app.finish_sending();
  ASSERT_TRUE(until([&] { return there->ended; }));
  EXPECT_TRUE(there->received == whole);
}

TEST_P(RelayBulkTest, ReaderThatStopsStopsTheSender) {
  auto& server = backend<RawBackend>();
  server.on_accept = [](Peer& peer) { peer.reading = false; };
  start();
  const std::string up = text_of_size(40u << 20);
  Peer& app = raw_client();
  app.to_send = up;
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  settle(200ms);
  EXPECT_GT(app.to_send.size(), 0u);  // beyond what the kernel's buffers take
  EXPECT_LE(receive_buffers(), 256u + 64);
  EXPECT_LE(memory(), splices() ? io::Pipe::kSize : 2 * 16 * 1024) << "a pipe, or two chunks, of this direction";
  EXPECT_GT(memory(), 0);
  there->reading = true;
  app.close();
  ASSERT_TRUE(until([&] { return there->ended || there->reset; }));
}

// Before the first bytes are spliced, the last ones that were copied have to be sent, however much is left of them when
// the reader takes no more.
TEST_P(RelayBulkTest, NothingPausesWhereSplicingBegins) {
  auto& server = backend<RawBackend>();
  start();
  base::Fd listening = listen_on_loopback();
  const base::SocketAddress address = address_of(listening.get());
  const base::Fd same(dup(listening.get()));
  worker().add_source(enrolled_pod("other-uid", std::move(listening)));
  const std::string said = text_of_size(300'000);
  size_t count = 0, slow = 0;
  for (int room = 15'000; room < 45'000; room += 250) {  // of the relay's socket to the application, which inherits it
    ASSERT_EQ(setsockopt(same.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    Peer& app = raw_client(connect_to(address, 4096));
    app.reading = false;
    app.send("x");
    ASSERT_TRUE(until([&] { return server.connections.size() == count + 1; }));
    Peer& there = *server.connections[count++];
    there.to_send = said;
    settle(3ms);
    app.reading = true;
    const base::Instant begun = base::MonotonicClock::now();
    ASSERT_TRUE(until([&] { return app.received.size() == said.size(); }));
    slow += base::MonotonicClock::now() - begun > 150ms ? 1 : 0;
    EXPECT_TRUE(app.received == said);
    app.abort();
    ASSERT_TRUE(until([&] { return there.reset; }));
  }
  EXPECT_LE(slow, 2u) << "of " << count << "; what else the machine does may make one or two so";
  worker().remove_source("other-uid");
}

// What is sent as urgent is no part of what splice() moves, but the socket stays readable.
TEST_P(RelayBulkTest, UrgentDataDoNotKeepTheWorkerBusy) {
  auto& server = backend<RawBackend>();
  start();
  const std::string bulk = text_of_size(4u << 20);
  Peer& app = raw_client();
  app.send("x y z");
  Peer* there = arrival(server);
  ASSERT_NE(there, nullptr);
  there->reading = false;
  app.to_send = bulk;
  ASSERT_TRUE(until([&] { return memory() > 0 && (!splices() || spliced() > 0); }));
  there->reading = true;
  ASSERT_TRUE(until([&] { return app.to_send.empty() && there->received.size() == 5 + bulk.size(); }));
  ASSERT_EQ(::send(app.fd(), "!", 1, MSG_OOB), 1);
  settle(50ms);
  const uint64_t turns = stats().turns.value();
  settle(200ms);
  EXPECT_LT(stats().turns.value() - turns, 50u);
  app.send("more");
  app.finish_sending();
  ASSERT_TRUE(until([&] { return there->ended; }));
  EXPECT_EQ(there->received.size(), 5 + bulk.size() + 4);
}

// Readers that are slow keep pipes; who gets none is served as well.
TEST_P(RelayBulkTest, MoreSlowReadersThanPipes) {
  auto& server = backend<RawBackend>();
  start();
  constexpr size_t kConnections = 40;
  const std::string bulk = text_of_size(8u << 20);
  std::vector<Peer*> apps;
  for (size_t i = 0; i < kConnections; ++i) {
    apps.push_back(&raw_client());
    apps.back()->send("x");
    ASSERT_TRUE(until([&] { return server.connections.size() == i + 1; }));
    apps.back()->reading = false;
    server.connections[i]->to_send = bulk;
  }
  EXPECT_TRUE(until([&] { return pipes() == (splices() ? 16u : 0u); })) << "of one pod: " << pipes();
  for (Peer* app : apps) app->reading = true;
  EXPECT_TRUE(until(
      [&] { return std::all_of(apps.begin(), apps.end(), [&](Peer* app) { return app->total_read == bulk.size(); }); },
      60s));
  for (Peer* app : apps) EXPECT_TRUE(app->received == bulk);
  EXPECT_EQ(pipes(), 0u);
}

TEST_P(RelayBulkTest, APodHasAPartOfTheWorkersPipes) {
  options.max_pipes = 8;
  auto& server = backend<RawBackend>();
  start();
  std::vector<Peer*> apps;
  for (size_t i = 0; i < 4; ++i) {
    apps.push_back(&raw_client());
    apps.back()->send("x");
    ASSERT_TRUE(until([&] { return server.connections.size() == i + 1; }));
    apps.back()->reading = false;
    server.connections[i]->to_send = text_of_size(8u << 20);
  }
  EXPECT_TRUE(until([&] { return pipes() == (splices() ? 2u : 0u); })) << pipes();
}

// What a pipe holds for somebody who leaves is dropped with it.
TEST_P(RelayBulkTest, AReaderThatLeavesLeavesNothing) {
  auto& server = backend<RawBackend>();
  start();
  for (size_t i = 0; i < 3; ++i) {
    Peer& app = raw_client();
    app.send("x");
    ASSERT_TRUE(until([&] { return server.connections.size() == i + 1; }));
    Peer& there = *server.connections[i];
    app.reading = false;
    there.to_send = text_of_size(8u << 20);
    ASSERT_TRUE(until([&] { return memory() > 0; }));
    settle(20ms);
    app.abort();
    EXPECT_TRUE(until([&] { return there.reset; }));
    EXPECT_TRUE(until([&] { return memory() == 0 && pipes() == 0; }, 5s));
  }
}

// A pod whose turn is used up goes on in the next, spliced bytes like others.
TEST_P(RelayBulkTest, BusyConnectionsOfTwoPodsShareTheTurns) {
  auto& server = backend<RawBackend>();
  start();
  base::Fd listening = listen_on_loopback();
  const base::SocketAddress address = address_of(listening.get());
  worker().add_source(enrolled_pod("other-uid", std::move(listening)));
  const std::string bulk = text_of_size(6u << 20);
  std::vector<Peer*> apps;
  for (size_t i = 0; i < 6; ++i) {
    apps.push_back(i % 2 == 0 ? &raw_client() : &raw_client(connect_to(address)));
    apps.back()->to_send = bulk;
    apps.back()->reading = true;
  }
  ASSERT_TRUE(until([&] { return server.connections.size() == apps.size(); }));
  for (auto& there : server.connections) there->to_send = bulk;
  const auto arrived = [&](const Peer& peer) { return peer.received.size() == bulk.size(); };
  ASSERT_TRUE(until(
      [&] {
        return std::all_of(apps.begin(), apps.end(), [&](Peer* app) { return arrived(*app); }) &&
               std::all_of(server.connections.begin(), server.connections.end(), [&](auto& c) { return arrived(*c); });
      },
      60s));
  for (Peer* app : apps) EXPECT_TRUE(app->received == bulk);
  for (auto& there : server.connections) EXPECT_TRUE(there->received == bulk);
  worker().remove_source("other-uid");
}

INSTANTIATE_TEST_SUITE_P(Mode, RelayBulkTest, ::testing::Values(config::Mode::l7, config::Mode::detect),
                         [](const auto& tested) { return tested.param == config::Mode::l7 ? "Copied" : "Spliced"; });

}  // namespace
}  // namespace weir::proxy::testing
