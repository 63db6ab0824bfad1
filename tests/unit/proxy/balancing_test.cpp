// Which endpoint a request goes to, and what a change of the configuration does to those under way.
#include <algorithm>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

void hold(StreamLog&) {}

struct BalancingTest : Lab {
  std::vector<StreamLog*> send(Wire& app, int count) {
    std::vector<StreamLog*> calls;
    for (int i = 0; i < count; ++i) calls.push_back(&app.unary());
    return calls;
  }
  static void expect_ok(const std::vector<StreamLog*>& calls) {
    for (StreamLog* call : calls) ASSERT_EQ(grpc_status(*call), 0) << grpc_message(*call);
  }
};

struct Policy {
  const char* name;
  config::LoadBalancing value;
};

struct PolicyTest : BalancingTest, ::testing::WithParamInterface<Policy> {};

TEST_P(PolicyTest, CallsOfOneConnectionReachEveryBackend) {
  cluster.load_balancing = GetParam().value;
  std::vector<Backend*> backends{&backend(), &backend(), &backend()};
  start();
  Wire& app = client();
  for (int round = 0; round < 30; ++round) {
    const auto calls = send(app, 10);
    ASSERT_TRUE(until_complete(calls));
    expect_ok(calls);
  }
  for (Backend* b : backends) {
    EXPECT_GE(b->request_count(), 60u);
    EXPECT_EQ(b->connections.size(), 1u);
  }
  EXPECT_EQ(stats().downstream_connections_total.value(), 1u);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x300"));
  uint64_t by_endpoint = 0;
  for (const auto& [labels, sums] : totals().endpoints) by_endpoint += sums.rpcs;
  EXPECT_EQ(by_endpoint, 300u);
}

INSTANTIATE_TEST_SUITE_P(Policies, PolicyTest,
                         ::testing::Values(Policy{"LeastRequest", config::LoadBalancing::least_request},
                                           Policy{"RoundRobin", config::LoadBalancing::round_robin},
                                           Policy{"Random", config::LoadBalancing::random}),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(BalancingTest, ThousandCallsAtOnceCompleteOnABackendThatAllowsTen) {
  http2::Limits ten;
  ten.max_concurrent_streams = 10;
  auto& server = backend(echo, ten);
  start();
  const auto calls = send(client(), 1000);
  ASSERT_TRUE(until_complete(calls, 20s));
  expect_ok(calls);
  EXPECT_EQ(server.request_count(), 1000u);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x1000"));
}

TEST_F(BalancingTest, CallsThatNeverEndDoNotKeepOthersWaitingForAStream) {
  http2::Limits ten;
  ten.max_concurrent_streams = 10;
  auto& server = backend(hold, ten);
  start();
  const auto calls = send(client(), 500);
  ASSERT_TRUE(until([&] { return server.request_count() == 500; })) << server.request_count();
  EXPECT_EQ(server.connections.size(), 50u);
  for (StreamLog* request : server.requests()) echo(*request);
  ASSERT_TRUE(until_complete(calls));
  expect_ok(calls);
}

TEST_F(BalancingTest, EndpointThatIsAddedGetsItsShare) {
  backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(send(app, 10)));
  auto& added = backend();
  apply();
  for (int round = 0; round < 10; ++round) ASSERT_TRUE(until_complete(send(app, 10)));
  EXPECT_GE(added.request_count(), 20u);
}

TEST_F(BalancingTest, EndpointThatIsRemovedFinishesItsCallsAndGetsNoOthers) {
  auto& leaving = backend(hold);
  start();
  Wire& app = client();
  StreamLog& running = app.unary("running");
  ASSERT_TRUE(until([&] { return leaving.request_count() == 1; }));
  remove_endpoint(leaving.address());
  auto& staying = backend();
  apply();
  const auto calls = send(app, 30);
  ASSERT_TRUE(until_complete(calls));
  expect_ok(calls);
  EXPECT_EQ(staying.request_count(), 30u);
  EXPECT_EQ(leaving.request_count(), 1u);
  EXPECT_EQ(leaving.open_connections(), 1u);
  EXPECT_FALSE(complete(running));

  echo(*leaving.only_request());
  ASSERT_TRUE(until_complete(running));
  EXPECT_EQ(grpc_status(running), 0);
  EXPECT_EQ(running.body, "running");
  EXPECT_TRUE(until([&] { return leaving.open_connections() == 0; }, 3s));
  EXPECT_TRUE(until([&] { return stats().upstream_connections.value() == 1; }));
}

TEST_F(BalancingTest, CallsThatWaitForARemovedEndpointGoElsewhere) {
  auto& silent = backend<RawBackend>();  // accepts, and never says SETTINGS
  start();
  Wire& app = client();
  const auto calls = send(app, 5);
  ASSERT_TRUE(until([&] { return silent.connections.size() == 1; }));
  remove_endpoint(silent.address());
  auto& serving = backend();
  apply();
  ASSERT_TRUE(until_complete(calls));
  expect_ok(calls);
  EXPECT_EQ(serving.request_count(), 5u);
}

TEST_F(BalancingTest, EndpointThatComesBackIsUsedAgain) {
  auto& server = backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(send(app, 3)));
  const auto full = cluster.endpoints;
  cluster.endpoints.clear();
  apply();
  StreamLog& between = app.unary();
  ASSERT_TRUE(until_complete(between));
  EXPECT_EQ(grpc_status(between), 14);
  cluster.endpoints = full;
  apply();
  const auto calls = send(app, 3);
  ASSERT_TRUE(until_complete(calls));
  expect_ok(calls);
  EXPECT_EQ(server.request_count(), 6u);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x6; 200 grpc 14 UH x1"));
}

TEST_F(BalancingTest, ServiceThatComesBackUnchangedIsServedAgain) {
  auto& server = backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(send(app, 3)));
  const auto with = snapshot();
  service_exists = false;
  const auto without = snapshot();
  worker().set_snapshot(with).wait();
  worker().set_snapshot(without).wait();
  worker().set_snapshot(with).wait();
  const auto calls = send(app, 3);
  ASSERT_TRUE(until_complete(calls));
  expect_ok(calls);
  EXPECT_EQ(server.request_count(), 6u);
}

TEST_F(BalancingTest, AbsentConnectionsAreMadeAnewAfterABackendRestarts) {
  auto& server = backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(send(app, 3)));
  server.connections[0]->abort();
  ASSERT_TRUE(until([&] { return stats().upstream_connections.value() == 0; }));
  const auto calls = send(app, 3);
  ASSERT_TRUE(until_complete(calls));
  expect_ok(calls);
  EXPECT_EQ(server.connections.size(), 2u);
}

}  // namespace
}  // namespace weir::proxy::testing
