// The ordinary life of a connection: two engines talk to each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "endpoint.h"

namespace weir::http2::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// Answers each request in full when it has ended, with the request's body, and releases the stream.
void echo(StreamLog& log) {
  if (!log.ended || !log.stream) return;
  if (log.sent == 0 && log.stream->all_sent()) {
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.stream->send_data(slice_of(log.body), false);
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  }
  if (log.stream->all_sent()) log.release();
}

class PairTest : public ::testing::TestWithParam<size_t> {
 protected:
  PairTest() { server.on_event = echo; }
  void exchange() { testing::exchange(client, server, GetParam()); }

  Endpoint client{Role::client};
  Endpoint server{Role::server};
};

TEST_P(PairTest, CarriesAUnaryCall) {
  StreamLog& call = client.open();
  call.stream->send_headers(to_headers(grpc_request()), false);
  call.stream->send_data(slice_of("hello"), true);
  exchange();

  ASSERT_EQ(server.logs.size(), 1u);
  EXPECT_EQ(server.logs[0]->heads, std::vector<Fields>{grpc_request()});
  EXPECT_EQ(server.logs[0]->body, "hello");
  ASSERT_EQ(call.heads.size(), 1u);
  EXPECT_THAT(call.heads[0], ElementsAre(Pair(":status", "200"), Pair("content-type", "application/grpc")));
  EXPECT_EQ(call.body, "hello");
  ASSERT_TRUE(call.trailers);
  EXPECT_THAT(*call.trailers, ElementsAre(Pair("grpc-status", "0")));
  EXPECT_TRUE(call.stream->all_sent());
  call.release();
  EXPECT_EQ(client.connection.open_streams(), 0u);
  EXPECT_EQ(server.connection.open_streams(), 0u);
  EXPECT_STREQ(client.connection.error(), "");
  EXPECT_STREQ(server.connection.error(), "");
  EXPECT_FALSE(client.connection.wants_write());
}

TEST_P(PairTest, CarriesABodyLargerThanAllWindows) {
  std::string body;
  for (int i = 0; body.size() < (9u << 20); ++i) body += std::to_string(i) + ",";
  StreamLog& call = client.open();
  call.stream->send_headers(to_headers(grpc_request()), false);
  const size_t at_once = call.stream->send_data(slice_of(body), true);
  EXPECT_LT(at_once, body.size());
  exchange();
  EXPECT_EQ(at_once + call.sent, body.size());
  EXPECT_EQ(server.logs[0]->body.size(), body.size());
  EXPECT_TRUE(server.logs[0]->body == body);
  EXPECT_TRUE(call.body == body);
  EXPECT_TRUE(call.trailers);
}

TEST_P(PairTest, ManyStreamsShareTheConnection) {
  std::vector<StreamLog*> calls;
  for (int i = 0; i < 100; ++i) {
    calls.push_back(&client.open());
    calls.back()->stream->send_headers(to_headers(grpc_request()), false);
  }
  for (int i = 0; i < 100; ++i) {
    calls[static_cast<size_t>(i)]->stream->send_data(slice_of(std::string(20000, static_cast<char>('a' + i % 26))),
                                                     true);
  }
  exchange();
  for (int i = 0; i < 100; ++i) {
    StreamLog& call = *calls[static_cast<size_t>(i)];
    EXPECT_TRUE(call.body == std::string(20000, static_cast<char>('a' + i % 26)));
    EXPECT_TRUE(call.trailers);
    call.release();
  }
  EXPECT_EQ(server.connection.open_streams(), 0u);
  EXPECT_EQ(server.connection.counters().streams_opened, 100u);
}

INSTANTIATE_TEST_SUITE_P(BytesAtATime, PairTest, ::testing::Values(SIZE_MAX, 16384, 100, 1),
                         ::testing::PrintToStringParamName());

}  // namespace
}  // namespace weir::http2::testing
