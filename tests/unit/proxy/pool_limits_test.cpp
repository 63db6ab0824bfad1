// connectionPool of a DestinationRule: what a pod may have open to a cluster, and what happens beyond it.
#include <netinet/tcp.h>

#include <algorithm>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

void hold(StreamLog&) {}

struct PoolLimitsTest : Lab {
  config::ConnectionPool& limits = cluster.connection_pool;

  std::vector<StreamLog*> send(Wire& app, int count) {
    std::vector<StreamLog*> calls;
    for (int i = 0; i < count; ++i) calls.push_back(&app.unary());
    return calls;
  }
  size_t most_streams_of_a_connection(const Backend& server) const {
    size_t most = 0;
    for (const auto& connection : server.connections) most = std::max(most, connection->endpoint.logs.size());
    return most;
  }
  static size_t with_status(const std::vector<StreamLog*>& calls, int status) {
    return static_cast<size_t>(std::count_if(
        calls.begin(), calls.end(), [&](StreamLog* call) { return complete(*call) && grpc_status(*call) == status; }));
  }
  bool arrive(const Backend& server, size_t count) {
    return until([&] { return server.request_count() == count; });
  }
};

TEST_F(PoolLimitsTest, ConnectionsAndStreamsAreExactAndTheRestWaits) {
  limits.max_connections = 2;
  limits.max_concurrent_streams = 3;
  auto& server = backend(hold);
  start();
  const auto calls = send(client(), 20);
  ASSERT_TRUE(arrive(server, 6));
  settle();
  EXPECT_EQ(server.request_count(), 6u);
  EXPECT_EQ(server.connections.size(), 2u);
  EXPECT_EQ(most_streams_of_a_connection(server), 3u);
  for (size_t answered = 0; answered < calls.size();) {  // the others follow as these end
    const auto requests = server.requests();
    for (StreamLog* request : requests)
      if (request->stream) echo(*request), ++answered;
    pump();
  }
  ASSERT_TRUE(until_complete(calls));
  EXPECT_EQ(with_status(calls, 0), 20u);
  EXPECT_EQ(server.connections.size(), 2u);
}

TEST_F(PoolLimitsTest, EveryEndpointMayHaveOneConnection) {
  limits.max_connections = 2;
  limits.max_concurrent_streams = 1;
  std::vector<Backend*> servers{&backend(hold), &backend(hold), &backend(hold)};
  start();
  send(client(), 30);
  ASSERT_TRUE(until(
      [&] { return std::all_of(servers.begin(), servers.end(), [](Backend* b) { return b->request_count() == 1; }); }));
  settle();
  for (Backend* server : servers) {
    EXPECT_EQ(server->connections.size(), 1u);
    EXPECT_EQ(server->request_count(), 1u);
  }
}

TEST_F(PoolLimitsTest, BeyondWhatMayWaitIsOverflow) {
  limits.max_connections = 1;
  limits.max_concurrent_streams = 2;
  limits.max_pending_requests = 3;
  auto& server = backend(hold);
  start();
  Wire& app = client();
  const auto first = send(app, 2);
  ASSERT_TRUE(arrive(server, 2));
  const auto calls = send(app, 10);
  ASSERT_TRUE(until([&] { return with_status(calls, 14) == 7; }));
  const auto refused = std::find_if(calls.begin(), calls.end(), [](StreamLog* call) { return complete(*call); });
  EXPECT_TRUE(trailers_only(**refused));
  EXPECT_EQ(field((*refused)->heads.at(0), "x-envoy-overloaded"), "true");
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UO x7"));
  EXPECT_EQ(stats().pool_overflows.value(), 7u);
  for (int round = 0; round < 5; ++round) {
    for (StreamLog* request : server.requests())
      if (request->stream) echo(*request);
    settle(10ms);
  }
  EXPECT_EQ(with_status(calls, 0), 3u);
}

TEST_F(PoolLimitsTest, BeyondTheRequestsUnderWayIsOverflow) {
  limits.max_requests = 4;
  auto& server = backend(hold);
  start();
  Wire& app = client();
  const auto calls = send(app, 10);
  ASSERT_TRUE(arrive(server, 4));
  ASSERT_TRUE(until([&] { return with_status(calls, 14) == 6; }));
  for (StreamLog* request : server.requests()) echo(*request);
  ASSERT_TRUE(until_complete(calls));
  ASSERT_TRUE(until_complete(send(app, 0)));
  const auto later = send(app, 4);
  ASSERT_TRUE(arrive(server, 8));
  EXPECT_EQ(with_status(later, 14), 0u);
}

TEST_F(PoolLimitsTest, ACallThatNeverEndsDoesNotKeepThePoolFromGrowing) {
  limits.max_connections = 3;
  limits.max_concurrent_streams = 1;
  auto& server = backend(hold);
  start();
  Wire& app = client();
  app.unary("stays");
  ASSERT_TRUE(arrive(server, 1));
  for (size_t i = 2; i <= 3; ++i) {
    app.unary("stays");
    ASSERT_TRUE(arrive(server, i));
    EXPECT_EQ(server.connections.size(), i);
  }
  app.unary("waits");
  settle();
  EXPECT_EQ(server.request_count(), 3u);
  EXPECT_EQ(server.connections.size(), 3u);
}

TEST_F(PoolLimitsTest, AConnectionThatHasHadItsRequestsMakesRoomWithoutLosingOne) {
  limits.max_connections = 1;
  limits.max_requests_per_connection = 10;
  auto& server = backend();
  start();
  Wire& app = client();
  for (int round = 0; round < 5; ++round) {
    const auto calls = send(app, 10);
    ASSERT_TRUE(until_complete(calls));
    EXPECT_EQ(with_status(calls, 0), 10u);
  }
  EXPECT_EQ(server.connections.size(), 5u);
  EXPECT_EQ(most_streams_of_a_connection(server), 10u);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x50"));
  EXPECT_TRUE(until([&] { return server.open_connections() <= 1; }));
}

TEST_F(PoolLimitsTest, AConnectionThatIsOldEndsAfterItsCalls) {
  limits.max_connection_duration = 150ms;
  auto& server = backend(hold);
  start();
  Wire& app = client();
  StreamLog& running = app.unary("running");
  ASSERT_TRUE(arrive(server, 1));
  settle(200ms);
  app.unary("next");
  ASSERT_TRUE(arrive(server, 2));
  ASSERT_EQ(server.connections.size(), 2u);
  EXPECT_FALSE(complete(running));
  for (StreamLog* request : server.requests()) echo(*request);
  ASSERT_TRUE(until_complete(running));
  EXPECT_EQ(grpc_status(running), 0);
  EXPECT_TRUE(until([&] { return server.open_connections() == 0; }, 3s)) << "the second grows old too";
}

TEST_F(PoolLimitsTest, AnIdleConnectionEnds) {
  limits.idle_timeout = 100ms;
  auto& server = backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(app.unary()));
  EXPECT_TRUE(until([&] { return server.open_connections() == 0; }, 4s));
  ASSERT_TRUE(until_complete(app.unary()));
  EXPECT_EQ(server.connections.size(), 2u);
}

TEST_F(PoolLimitsTest, ConnectionsAreKeptAliveAsAskedFor) {
  std::atomic<int> fd{-1};
  options.mark_upstream = [&fd](int opened) -> base::Result<void> {
    fd = opened;
    return {};
  };
  limits.tcp_keepalive = config::TcpKeepalive{5, 40s, 7s};
  backend();
  start();
  ASSERT_TRUE(until_complete(client().unary()));
  const auto option = [&fd](int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, level, name, &value, &size) == 0 ? value : -1;
  };
  EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPCNT), 5);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE), 40);
  EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPINTVL), 7);
}

// The one connection that there is has all the streams that its peer allows, and for another one no socket is left.
struct NoSocketTest : PoolLimitsTest {
  NoSocketTest() {
    options.mark_upstream = [this](int) -> base::Result<void> {
      if (none) return base::Error{"there is none", EMFILE};
      return {};
    };
  }
  // A call that waits.
  StreamLog& waiting_call() {
    limits.max_concurrent_streams = 1;
    auto& server = backend(hold);
    start();
    Wire& app = client();
    app.unary("stays");
    EXPECT_TRUE(arrive(server, 1));
    none = true;
    StreamLog& call = app.unary();
    settle(200ms);
    EXPECT_FALSE(complete(call));
    return call;
  }
  std::atomic<bool> none{false};
};

TEST_F(NoSocketTest, WhoWaitsIsServedWhenTheyAreBack) {
  const StreamLog& call = waiting_call();
  none = false;
  EXPECT_TRUE(until([&] { return stats().upstream_connections.value() == 2; }, 3s));
  EXPECT_FALSE(complete(call));
}

TEST_F(NoSocketTest, WhoWaitsIsToldAfterTheConnectTimeout) {
  limits.connect_timeout = 500ms;
  const StreamLog& call = waiting_call();
  ASSERT_TRUE(until_complete(call, 3s));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_TRUE(recorded_becomes("200 grpc 14 OM x1"));
}

TEST_F(PoolLimitsTest, LimitsChangeUnderLiveConnections) {
  limits.max_connections = 1;
  limits.max_concurrent_streams = 1;
  auto& server = backend(hold);
  start();
  Wire& app = client();
  send(app, 10);
  ASSERT_TRUE(arrive(server, 1));
  limits.max_concurrent_streams = 4;
  apply();
  ASSERT_TRUE(arrive(server, 4));
  limits.max_connections = 2;
  apply();
  ASSERT_TRUE(arrive(server, 8));
  EXPECT_EQ(server.connections.size(), 2u);
}

}  // namespace
}  // namespace weir::proxy::testing
