// What the application sees when an endpoint can't be reached, refuses, or breaks: a status with a
// reason, soon, and no second copy of a request that may have been processed.
#include <gmock/gmock.h>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

using ::testing::HasSubstr;

const Fields kPlainRequest = {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "echo"}};

// Refuses every request before it was processed.
void refuse(StreamLog& log) {
  if (log.stream) log.release(http::kRefusedStream);
}

struct FailureTest : Lab {
  // A call that must end soon, with status 14 in a Trailers-Only response.
  void expect_unavailable(const StreamLog& call, std::string_view flag, std::string_view message) {
    ASSERT_TRUE(until_complete(call, 3s));
    EXPECT_TRUE(trailers_only(call));
    EXPECT_EQ(field(call.heads.at(0), ":status"), "200");
    EXPECT_EQ(field(call.heads.at(0), "content-type"), "application/grpc");
    EXPECT_EQ(grpc_status(call), 14);
    EXPECT_THAT(grpc_message(call), HasSubstr(message));
    EXPECT_TRUE(recorded_becomes("200 grpc 14 " + std::string(flag) + " x1"));
  }
};

TEST_F(FailureTest, RefusedRequestMovesToAnotherEndpointAndIsSentThereOnce) {
  cluster.load_balancing = config::LoadBalancing::round_robin;
  auto& refusing = backend(refuse);
  auto& serving = backend();
  start();
  Wire& app = client();
  std::vector<StreamLog*> calls;
  const std::string body(20000, 'b');
  for (int i = 0; i < 10; ++i) calls.push_back(&app.unary(body + std::to_string(i)));
  ASSERT_TRUE(until_complete(calls));
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(grpc_status(*calls[i]), 0);
    EXPECT_EQ(calls[i]->body, body + std::to_string(i));
  }
  EXPECT_GE(refusing.request_count(), 3u);
  EXPECT_EQ(serving.request_count(), 10u);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x10"));
}

TEST_F(FailureTest, RequestRefusedByEveryEndpointEndsAfterFewAttempts) {
  auto& first = backend(refuse);
  auto& second = backend(refuse);
  start();
  StreamLog& call = client().unary();
  expect_unavailable(call, "UR,URX", "reset");
  // The first, one that costs nothing, and two of the default policy.
  EXPECT_EQ(first.request_count() + second.request_count(), 4u);
}

TEST_F(FailureTest, RequestAboveLastStreamIdOfGoawayMovesToAnotherEndpoint) {
  cluster.load_balancing = config::LoadBalancing::round_robin;
  const auto hold = [](StreamLog&) {};
  auto& leaving = backend(hold);
  start();
  Wire& app = client();
  StreamLog& first = app.unary("first");
  ASSERT_TRUE(until([&] { return leaving.request_count() == 1; }));
  auto& serving = backend();
  apply();
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(&app.unary(std::to_string(i)));
  ASSERT_TRUE(until([&] { return leaving.request_count() + serving.request_count() == 5; }));
  ASSERT_GE(leaving.request_count(), 2u);
  const std::string last_stream_1 = http2::testing::u32_text(1) + http2::testing::u32_text(0);
  leaving.connections[0]->send(http2::testing::frame(http2::FrameType::goaway, 0, 0, last_stream_1));
  ASSERT_TRUE(until_complete(calls));
  for (size_t i = 0; i < calls.size(); ++i) EXPECT_EQ(calls[i]->body, std::to_string(i));
  EXPECT_EQ(serving.request_count(), 4u);

  // What was processed ends there, and then the connection.
  EXPECT_FALSE(complete(first));
  echo(*leaving.requests().at(0));
  ASSERT_TRUE(until_complete(first));
  EXPECT_EQ(grpc_status(first), 0);
  EXPECT_TRUE(until([&] { return leaving.open_connections() == 0; }));
}

TEST_F(FailureTest, RequestThatMayHaveBeenProcessedIsNotSentAgain) {
  auto& resetting = backend([](StreamLog& log) {
    if (log.stream && log.ended) log.release(http::kInternalError);
  });
  auto& second = backend();
  remove_endpoint(second.address());
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until([&] { return resetting.request_count() == 1; }));
  add_endpoint(second.address());
  apply();
  expect_unavailable(call, "UR", "reset");
  EXPECT_EQ(second.request_count(), 0u);
}

TEST_F(FailureTest, RefusedConnectMovesToAnotherEndpoint) {
  cluster.load_balancing = config::LoadBalancing::round_robin;
  add_endpoint(loopback(closed_port()));
  add_endpoint(loopback(closed_port()));
  auto& serving = backend();
  start();
  Wire& app = client();
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 12; ++i) calls.push_back(&app.unary());
  ASSERT_TRUE(until_complete(calls));
  for (StreamLog* call : calls) EXPECT_EQ(grpc_status(*call), 0);
  EXPECT_EQ(serving.request_count(), 12u);
}

TEST_F(FailureTest, EveryConnectRefusedIsUnavailableWithFlagUF) {
  for (int i = 0; i < 3; ++i) add_endpoint(loopback(closed_port()));
  start();
  expect_unavailable(client().unary(), "UF,URX", "Connection refused");
  // Each endpoint once, and so again after each backoff of the default policy.
  EXPECT_EQ(stats().upstream_connect_failures.value(), 9u);
}

TEST_F(FailureTest, NoEndpointIsUnavailableWithFlagUH) {
  start();
  expect_unavailable(client().unary(), "UH", "no healthy endpoint");
}

TEST_F(FailureTest, ServiceThatIsGoneIsUnavailableWithFlagNC) {
  backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(app.unary()));
  service_exists = false;
  apply();
  StreamLog& call = app.unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_TRUE(trailers_only(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x1; 200 grpc 14 NC x1"));
  // Nothing will use its connections again.
  EXPECT_TRUE(until([&] { return stats().upstream_connections.value() == 0; }, 3s)) << gauges();
}

struct PlainCase {
  const char* name;
  enum { none, refused, http1, gone } backend;
  const char* status;
  const char* recorded;
};

struct PlainHttpTest : Lab, ::testing::WithParamInterface<PlainCase> {};

TEST_P(PlainHttpTest, GetsAnHttpStatusAndTheReasonAsText) {
  if (GetParam().backend == PlainCase::refused) add_endpoint(loopback(closed_port()));
  if (GetParam().backend == PlainCase::http1) {
    backend<RawBackend>().on_accept = [](Peer& peer) { peer.send("HTTP/1.1 400 Bad Request\r\n\r\n"); };
  }
  service_exists = GetParam().backend != PlainCase::gone;
  start();
  StreamLog& call = client().call(kPlainRequest, true);
  ASSERT_TRUE(until_complete(call, 3s));
  ASSERT_EQ(call.heads.size(), 1u);
  EXPECT_EQ(field(call.heads[0], ":status"), GetParam().status);
  EXPECT_EQ(field(call.heads[0], "grpc-status"), "");
  EXPECT_EQ(field(call.heads[0], "content-length"), std::to_string(call.body.size()));
  EXPECT_THAT(call.body, ::testing::StartsWith("weir: "));
  EXPECT_FALSE(call.trailers);
  EXPECT_TRUE(recorded_becomes(GetParam().recorded));
}

INSTANTIATE_TEST_SUITE_P(Cases, PlainHttpTest,
                         ::testing::Values(PlainCase{"NoEndpoint", PlainCase::none, "503", "503 grpc -1 UH x1"},
                                           PlainCase{"ConnectRefused", PlainCase::refused, "503",
                                                     "503 grpc -1 UF,URX x1"},
                                           PlainCase{"NotHttp2", PlainCase::http1, "502", "502 grpc -1 URX,UPE x1"},
                                           PlainCase{"ServiceGone", PlainCase::gone, "503", "503 grpc -1 NC x1"}),
                         [](const auto& tested) { return tested.param.name; });

TEST_F(FailureTest, BackendOfHttp1IsUnavailableWithFlagUPE) {
  backend<RawBackend>().on_accept = [](Peer& peer) { peer.send("HTTP/1.1 400 Bad Request\r\n\r\n"); };
  start();
  expect_unavailable(client().unary(), "URX,UPE", "no endpoint could be reached");
  EXPECT_EQ(stats().upstream_protocol_errors.value(), 3u);
}

TEST_F(FailureTest, BackendThatClosesAtOnceIsUnavailableWithFlagUF) {
  auto& closing = backend<RawBackend>();
  closing.on_accept = [](Peer& peer) { peer.close(); };
  start();
  expect_unavailable(client().unary(), "UF,URX", "no endpoint could be reached");
  EXPECT_EQ(closing.connections.size(), 3u);
}

TEST_F(FailureTest, BackendThatSaysNothingIsUnavailableAfterTheConnectTimeout) {
  cluster.connection_pool.connect_timeout = 100ms;
  backend<RawBackend>();
  start();
  expect_unavailable(client().unary(), "UF,URX", "connect timeout");
}

TEST_F(FailureTest, BackendThatAllowsNoStreamIsUnavailableAfterTheConnectTimeout) {
  cluster.connection_pool.connect_timeout = 100ms;
  http2::Limits none;
  none.max_concurrent_streams = 0;
  auto& closed = backend(echo, none);
  start();
  expect_unavailable(client().unary(), "UF,URX", "SETTINGS");
  EXPECT_EQ(closed.connections.size(), 3u);
}

TEST_F(FailureTest, BackendThatDiesMidStreamEndsTheResponseWithTrailersAndOtherStreamsGoOn) {
  cluster.load_balancing = config::LoadBalancing::round_robin;
  const auto begin_response = [](StreamLog& log) {
    if (!log.stream || log.heads.empty() || !log.ended) return;
    if (log.body == "echo") return echo(log);
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.stream->send_data(slice_of("part"), false);
    log.ended = false;  // once
  };
  auto& dying = backend(begin_response);
  auto& living = backend(begin_response);
  start();
  Wire& app = client();
  std::vector<StreamLog*> calls{&app.unary("one"), &app.unary("two")};
  ASSERT_TRUE(until([&] { return calls[0]->body == "part" && calls[1]->body == "part"; }));
  ASSERT_EQ(dying.request_count(), 1u);
  ASSERT_EQ(living.request_count(), 1u);
  dying.die();
  ASSERT_TRUE(until([&] { return complete(*calls[0]) || complete(*calls[1]); }));
  StreamLog& ended = complete(*calls[0]) ? *calls[0] : *calls[1];
  StreamLog& running = complete(*calls[0]) ? *calls[1] : *calls[0];
  EXPECT_FALSE(ended.reset);
  ASSERT_TRUE(ended.trailers);
  EXPECT_EQ(grpc_status(ended), 14);
  EXPECT_THAT(grpc_message(ended), HasSubstr("connection to the endpoint ended"));
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UC x1"));

  EXPECT_FALSE(complete(running));
  StreamLog* at_backend = living.only_request();
  ASSERT_NE(at_backend, nullptr);
  at_backend->stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  StreamLog& next = app.unary("echo");
  ASSERT_TRUE(until_complete({&running, &next}));
  EXPECT_EQ(grpc_status(running), 0);
  EXPECT_EQ(grpc_status(next), 0);
}

TEST_F(FailureTest, PlainResponseThatBreaksOffIsReset) {
  auto& dying = backend([](StreamLog& log) {
    if (!log.stream || !log.body.empty()) return;
    log.stream->send_headers(to_headers({{":status", "200"}}), false);
    log.stream->send_data(slice_of("part"), false);
  });
  start();
  StreamLog& call = client().call(kPlainRequest, true);
  ASSERT_TRUE(until([&] { return call.body == "part"; }));
  dying.die();
  ASSERT_TRUE(until_complete(call));
  ASSERT_TRUE(call.reset);
  EXPECT_EQ(call.reset->error_code, http::kInternalError);
  EXPECT_TRUE(recorded_becomes("200 grpc -1 UC x1"));
}

}  // namespace
}  // namespace weir::proxy::testing
