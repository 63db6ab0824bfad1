// Retries: what an RPC's policy makes of an attempt that failed.
#include <algorithm>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

using config::RetryOn;

void hold(StreamLog&) {}

// Answers with this status: Trailers-Only, or after the response's head.
auto failing(int status, bool trailers_only = true, Fields more = {}) {
  return [=](StreamLog& log) {
    if (!log.stream || !log.ended) return;
    Fields end = {{"grpc-status", std::to_string(status)}};
    end.insert(end.end(), more.begin(), more.end());
    Fields head = {{":status", "200"}, {"content-type", "application/grpc"}};
    if (trailers_only) {
      head.insert(head.end(), end.begin(), end.end());
      return log.stream->send_headers(to_headers(head), true);
    }
    log.stream->send_headers(to_headers(head), false);
    log.stream->send_trailers(to_headers(end));
  };
}

struct RetryTest : Lab {
  // One rule with these conditions leads to the cluster.
  config::RouteRule& retry_on(std::initializer_list<RetryOn> conditions, uint32_t attempts = 3) {
    auto service = std::make_shared<config::VirtualService>();
    service->hosts = {cluster.host};
    service->rules.resize(1);
    config::RouteRule& rule = service->rules[0];
    rule.destinations.push_back({cluster.host, {}, std::nullopt, 1, {}});
    rule.retries.emplace().attempts = attempts;
    for (const RetryOn condition : conditions) rule.retries->conditions |= static_cast<uint32_t>(condition);
    rule.retries->backoff = 1ms;
    virtual_services = {service};
    return rule;
  }
};

TEST_F(RetryTest, EveryAttemptIsMadeThenTheLastAnswerIsTheClients) {
  for (const bool trailers_only : {true, false}) {
    auto& server = backend(failing(14, trailers_only, {{"grpc-message", "no"}}));
    retry_on({RetryOn::unavailable});
    if (trailers_only)
      start();
    else
      apply();
    Wire& app = client();
    StreamLog& call = app.unary();
    ASSERT_TRUE(until_complete(call));
    EXPECT_EQ(grpc_status(call), 14);
    EXPECT_EQ(grpc_message(call), "no");
    ASSERT_EQ(server.request_count(), 4u);
    const auto requests = server.requests();
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(requests[i]->body, "hello");
      EXPECT_EQ(field(requests[i]->heads.at(0), "x-envoy-attempt-count"), i == 0 ? "" : std::to_string(i + 1));
      EXPECT_EQ(field(requests[i]->heads.at(0), "grpc-previous-rpc-attempts"), i == 0 ? "" : std::to_string(i));
    }
    cluster.endpoints.clear();
  }
  EXPECT_TRUE(recorded_becomes("200 grpc 14 URX x2"));
  EXPECT_EQ(stats().retries.value(), 6u);
}

TEST_F(RetryTest, TheMeshsDefaultIsForCallsWithoutAPolicyOfTheirOwn) {
  auto& server = backend(failing(13));
  default_retries = {};
  default_retries.attempts = 1;
  default_retries.conditions = static_cast<uint32_t>(RetryOn::internal);
  default_retries.backoff = 1ms;
  start();
  Wire& app = client();
  const auto attempts = [&] {
    apply();
    const size_t before = server.request_count();
    EXPECT_TRUE(until_complete(app.unary()));
    return server.request_count() - before;
  };
  EXPECT_EQ(attempts(), 2u) << "no VirtualService";
  retry_on({}).retries.reset();
  EXPECT_EQ(attempts(), 2u) << "a rule without retries";
  retry_on({RetryOn::unavailable});
  EXPECT_EQ(attempts(), 1u) << "a rule with retries";
}

TEST_F(RetryTest, WhatTheConditionsDoNotCoverGoesToTheClientAtOnce) {
  auto& server = backend(failing(13));
  retry_on({RetryOn::unavailable});
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 13);
  EXPECT_EQ(server.request_count(), 1u);
  EXPECT_TRUE(recorded_becomes("200 grpc 13 - x1"));
}

TEST_F(RetryTest, HostsThatFailedAreAvoided) {
  auto& first = backend(failing(14));
  auto& second = backend(failing(14));
  backend();
  retry_on({RetryOn::unavailable});
  start();
  Wire& app = client();
  for (int i = 0; i < 50; ++i) {
    StreamLog& call = app.unary();
    ASSERT_TRUE(until_complete(call));
    EXPECT_EQ(grpc_status(call), 0) << "each endpoint is asked once at most, so the good one within three attempts";
  }
  EXPECT_LE(first.request_count(), 50u);
  EXPECT_LE(second.request_count(), 50u);
  EXPECT_GT(first.request_count() + second.request_count(), 0u);
}

TEST_F(RetryTest, AStuckAttemptIsCutByItsTimeout) {
  auto& stuck = backend(hold);
  retry_on({RetryOn::deadline_exceeded}, 1).retries->per_try_timeout = 100ms;
  start();
  const base::Instant begun = base::MonotonicClock::now();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until([&] { return stuck.request_count() >= 1 && stuck.requests()[0]->reset; }));
  EXPECT_GE(base::MonotonicClock::now() - begun, 100ms);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 4);
  EXPECT_EQ(stuck.request_count(), 2u);
  EXPECT_TRUE(recorded_becomes("200 grpc 4 UT,URX x1"));
}

TEST_F(RetryTest, AHeadIsHeldBackForTenMillisecondsAtMost) {
  const auto head_only = [](StreamLog& log) {
    if (log.stream && log.ended)
      log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
  };
  auto& server = backend(head_only);
  start();
  Wire& app = client();
  StreamLog& waits = app.unary();
  ASSERT_TRUE(until([&] { return !waits.heads.empty(); }, 1s)) << "the mesh's default policy could still retry";
  // Its head is out: nothing can be tried again.
  server.requests()[0]->stream->send_trailers(to_headers({{"grpc-status", "14"}}));
  ASSERT_TRUE(until_complete(waits));
  EXPECT_EQ(grpc_status(waits), 14);
  EXPECT_EQ(server.request_count(), 1u);
}

TEST_F(RetryTest, AClientThatWaitsForTheHeadBeforeItGoesOnGetsIt) {
  backend([](StreamLog& log) {
    if (!log.stream || log.heads.empty()) return;
    if (log.ended) return log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
  });
  start();
  Wire& app = client();
  StreamLog& call = app.call();
  ASSERT_TRUE(until([&] { return !call.heads.empty(); }));
  call.stream->send_data(slice_of("x"), true);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
}

TEST_F(RetryTest, PushbackDecides) {
  auto& never = backend(failing(14, true, {{"grpc-retry-pushback-ms", "-1"}}));
  retry_on({RetryOn::unavailable});
  start();
  Wire& app = client();
  StreamLog& once = app.unary();
  ASSERT_TRUE(until_complete(once));
  EXPECT_EQ(never.request_count(), 1u);
  cluster.endpoints.clear();
  auto& later = backend(failing(14, false, {{"grpc-retry-pushback-ms", "80"}}));
  retry_on({RetryOn::unavailable}, 1);
  apply();
  const base::Instant begun = base::MonotonicClock::now();
  StreamLog& twice = app.unary();
  ASSERT_TRUE(until_complete(twice));
  EXPECT_EQ(later.request_count(), 2u);
  EXPECT_GE(base::MonotonicClock::now() - begun, 80ms);
}

TEST_F(RetryTest, TheBudgetBoundsRetriesUnderWay) {
  auto& server = backend(failing(14, true, {{"grpc-retry-pushback-ms", "200"}}));
  cluster.retry_budget = config::RetryBudget{0, 2};
  retry_on({RetryOn::unavailable}, 1);
  start();
  Wire& app = client();
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 10; ++i) calls.push_back(&app.unary());
  ASSERT_TRUE(until_complete(calls));
  EXPECT_EQ(server.request_count(), 12u);
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UO x8; 200 grpc 14 URX x2"));
  EXPECT_EQ(stats().retry_overflows.value(), 8u);
  StreamLog& after = app.unary();  // what was under way is over
  ASSERT_TRUE(until_complete(after));
  EXPECT_EQ(server.request_count(), 14u);
}

TEST_F(RetryTest, TheDeadlineEndsABackoff) {
  auto& server = backend(failing(14, true, {{"grpc-retry-pushback-ms", "5000"}}));
  retry_on({RetryOn::unavailable});
  start();
  Fields head = http2::testing::grpc_request();
  head.emplace_back("grpc-timeout", "300m");
  StreamLog& call = client().call(head, true);
  ASSERT_TRUE(until_complete(call, 2s));
  EXPECT_EQ(grpc_status(call), 14) << "a retry could only come too late, so the answer is the client's at once";
  EXPECT_EQ(server.request_count(), 1u);
}

TEST_F(RetryTest, ABodyBeyondTheReplayBufferIsNotSentAgain) {
  auto& server = backend(failing(14));
  retry_on({RetryOn::unavailable});
  start();
  StreamLog& call = client().unary(std::string(100'000, 'b'));
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_EQ(server.request_count(), 1u);
}

TEST_F(RetryTest, WhatTheWorkerKeepsForRetriesIsBounded) {
  auto& server = backend(failing(14));
  retry_on({RetryOn::unavailable}, 1);
  options.replay_memory = 20'000;
  start();
  Wire& app = client();
  size_t requests = 0;
  for (const size_t body : {30'000u, 30'000u, 10'000u, 10'000u}) {
    StreamLog& call = app.unary(std::string(body, 'b'));
    ASSERT_TRUE(until_complete(call));
    EXPECT_EQ(server.request_count() - requests, body > options.replay_memory ? 1u : 2u);
    requests = server.request_count();
  }
  EXPECT_EQ(stats().replay_overflows.value(), 2u);
}

TEST_F(RetryTest, AClientThatLeavesDuringABackoffIsForgotten) {
  auto& server = backend(failing(14, true, {{"grpc-retry-pushback-ms", "200"}}));
  retry_on({RetryOn::unavailable});
  start();
  Wire& app = client();
  app.unary();
  ASSERT_TRUE(until([&] { return stats().retries.value() == 1; }));
  app.close();
  EXPECT_TRUE(until([&] { return stats().active_rpcs.value() == 0; }));
  settle(250ms);
  EXPECT_EQ(server.request_count(), 1u);
}

}  // namespace
}  // namespace weir::proxy::testing
