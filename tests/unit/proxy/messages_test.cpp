// What passes through an exchange and in which order: heads, bodies, trailers, both ways.
#include <numeric>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

const Fields kOkHead = {{":status", "200"}, {"content-type", "application/grpc"}};

void hold(StreamLog&) {}

struct MessagesTest : Lab {
  // Waits for the one request at `server`.
  StreamLog* arrival(Backend& server) {
    EXPECT_TRUE(until([&] { return server.request_count() == 1; }));
    return server.only_request();
  }
};

TEST_F(MessagesTest, RequestAndResponseHeadsArriveAsTheyWereSent) {
  auto& server = backend(hold);
  start();
  Fields request = http2::testing::grpc_request();
  request.insert(request.end(), {{"x-bin-bin", "AAECAw=="}, {"x-twice", "one"}, {"x-twice", "two"}});
  StreamLog& call = client().call(request, true);
  StreamLog* at_server = arrival(server);
  ASSERT_NE(at_server, nullptr);
  EXPECT_EQ(at_server->heads.at(0), request);
  const Fields head = {{":status", "200"}, {"content-type", "application/grpc+proto"}, {"x-answer", "42"}};
  const Fields trailers = {{"grpc-status", "3"}, {"grpc-message", "so%20what"}, {"x-detail-bin", "AA=="}};
  at_server->stream->send_headers(to_headers(head), false);
  at_server->stream->send_trailers(to_headers(trailers));
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(call.heads, std::vector<Fields>{head});
  EXPECT_EQ(call.trailers, trailers);
  EXPECT_TRUE(recorded_becomes("200 grpc 3 - x1"));
}

TEST_F(MessagesTest, TrailersOnlyResponsePasses) {
  auto& server = backend(hold);
  start();
  StreamLog& call = client().unary();
  StreamLog* at_server = arrival(server);
  ASSERT_NE(at_server, nullptr);
  at_server->stream->send_headers(to_headers({{":status", "200"}, {"grpc-status", "5"}}), true);
  ASSERT_TRUE(until_complete(call));
  EXPECT_TRUE(trailers_only(call));
  EXPECT_TRUE(recorded_becomes("200 grpc 5 - x1"));
}

TEST_F(MessagesTest, RequestTrailersPass) {
  auto& server = backend(hold);
  start();
  StreamLog& call = client().call();
  call.stream->send_data(slice_of("body"), false);
  call.stream->send_trailers(to_headers({{"x-checksum", "1234"}}));
  StreamLog* at_server = arrival(server);
  ASSERT_TRUE(until([&] { return at_server->trailers.has_value(); }));
  EXPECT_EQ(at_server->body, "body");
  EXPECT_EQ(field(*at_server->trailers, "x-checksum"), "1234");
  echo(*at_server);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
}

TEST_F(MessagesTest, RequestTrailersWithoutABodyAreKeptUntilTheConnectionIsThere) {
  auto& server = backend(hold);
  start();
  StreamLog& call = client().call();
  call.stream->send_trailers(to_headers({{"x-checksum", "0"}}));
  StreamLog* at_server = arrival(server);
  ASSERT_TRUE(until([&] { return at_server->trailers.has_value(); }));
  EXPECT_TRUE(at_server->body.empty());
  echo(*at_server);
  ASSERT_TRUE(until_complete(call));
}

TEST_F(MessagesTest, InformationalResponsesPass) {
  auto& server = backend(hold);
  start();
  StreamLog& call = client().unary();
  StreamLog* at_server = arrival(server);
  ASSERT_NE(at_server, nullptr);
  at_server->stream->send_headers(to_headers({{":status", "100"}}), false);
  at_server->stream->send_headers(to_headers({{":status", "103"}, {"link", "</style>"}}), false);
  ASSERT_TRUE(until([&] { return call.heads.size() == 2; }));
  EXPECT_EQ(field(call.heads[1], "link"), "</style>");
  echo(*at_server);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(call.heads.size(), 3u);
  EXPECT_EQ(call.body, "hello");
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x1"));
}

TEST_F(MessagesTest, EarlyResponsePassesAndTheRequestIsStoppedAtBothEnds) {
  auto& server = backend(hold);
  start();
  StreamLog& call = client().call();
  call.stream->send_data(slice_of("some"), false);
  StreamLog* at_server = arrival(server);
  ASSERT_NE(at_server, nullptr);
  at_server->stream->send_headers(to_headers(kOkHead), false);
  at_server->stream->send_trailers(to_headers({{"grpc-status", "8"}}));
  ASSERT_TRUE(until([&] { return call.trailers && call.reset && at_server->reset; }));
  EXPECT_EQ(grpc_status(call), 8);
  EXPECT_EQ(call.reset->error_code, http::kNoError);
  EXPECT_EQ(at_server->reset->error_code, http::kCancel);
  EXPECT_TRUE(recorded_becomes("200 grpc 8 - x1"));
}

TEST_F(MessagesTest, PingPongMessagesAreNotHeldBack) {
  // The server answers each message with its length in turn, as grpc's interop test does.
  auto& server = backend([](StreamLog& log) {
    if (!log.stream) return;
    if (log.heads.size() == 1 && log.sent == 0 && log.body.empty() && !log.ended) {
      log.stream->send_headers(to_headers(kOkHead), false);
    }
    if (!log.body.empty()) log.stream->send_data(slice_of(std::exchange(log.body, {}) + "!"), false);
    if (log.ended) log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  });
  start();
  StreamLog& call = client().call();
  ASSERT_TRUE(until([&] { return call.heads.size() == 1; }));  // before any message
  for (int i = 0; i < 50; ++i) {
    const std::string message = "message " + std::to_string(i);
    call.body.clear();
    call.stream->send_data(slice_of(message), false);
    ASSERT_TRUE(until([&] { return call.body == message + "!"; })) << call.body;
  }
  call.stream->send_data({}, true);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_EQ(server.request_count(), 1u);
}

TEST_F(MessagesTest, PrefixedMessagesAndBytesAreCounted) {
  backend();
  start();
  const auto message = [](std::string_view text) {
    return std::string(3, '\0') + std::string{'\0', static_cast<char>(text.size())} + std::string(text);
  };
  StreamLog& call = client().unary(message("one") + message("three"));
  ASSERT_TRUE(until_complete(call));
  ASSERT_TRUE(recorded_becomes("200 grpc 0 - x1"));
  const auto all = totals();
  const telemetry::RpcTotals& sums = all.rpcs.begin()->second;
  EXPECT_EQ(sums.request_messages, 2u);
  EXPECT_EQ(sums.response_messages, 2u);
  EXPECT_EQ(sums.request_bytes.sum, 18);
  EXPECT_EQ(sums.response_bytes.sum, 18);
}

}  // namespace
}  // namespace weir::proxy::testing
