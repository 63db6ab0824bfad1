// Deadlines and cancellations: they reach the backend, and nothing runs on for nobody.
#include "grpc/timeout.h"
#include "lab.h"

namespace weir::proxy::testing {
namespace {

void hold(StreamLog&) {}

struct DeadlineTest : Lab {
  static Fields request_with_timeout(std::string value) {
    Fields fields = http2::testing::grpc_request();
    fields.emplace_back("grpc-timeout", std::move(value));
    return fields;
  }
  static base::Duration timeout_of(const StreamLog& request) {
    return grpc::parse_timeout(field(request.heads.at(0), "grpc-timeout")).value_or(base::Duration::max());
  }
  std::vector<StreamLog*> arrivals(Backend& server, size_t count) {
    EXPECT_TRUE(until([&] { return server.request_count() == count; }));
    return server.requests();
  }
};

TEST_F(DeadlineTest, TimeoutIsPassedOnAndNeverGrows) {
  auto& server = backend();
  start();
  Wire& app = client();
  ASSERT_TRUE(until_complete(app.unary()));  // a connection is there from now on
  const std::pair<const char*, base::Duration> cases[] = {{"2S", 2s},        {"1M", 60s},
                                                          {"100H", 100h},    {"99999999H", base::Duration::max()},
                                                          {"1500m", 1500ms}, {"2000000u", 2s}};
  for (const auto& [text, timeout] : cases) {
    StreamLog& call = app.call(request_with_timeout(text), true);
    ASSERT_TRUE(until_complete(call));
    EXPECT_EQ(grpc_status(call), 0);
    EXPECT_LE(timeout_of(*server.requests().back()), timeout) << text;
    EXPECT_GE(timeout_of(*server.requests().back()), std::min<base::Duration>(timeout - 1s, 24h)) << text;
  }
}

TEST_F(DeadlineTest, TimeoutIsReducedByTheTimeSpentWaiting) {
  auto& silent = backend<RawBackend>();  // its SETTINGS come late
  start();
  StreamLog& call = client().call(request_with_timeout("5S"), true);
  ASSERT_TRUE(until([&] { return silent.connections.size() == 1; }));
  settle(120ms);
  remove_endpoint(silent.address());
  auto& server = backend(hold);
  apply();
  const auto requests = arrivals(server, 1);
  EXPECT_LE(timeout_of(*requests[0]), 5s - 120ms);
  EXPECT_GE(timeout_of(*requests[0]), 3s);
  echo(*requests[0]);
  ASSERT_TRUE(until_complete(call));
}

TEST_F(DeadlineTest, AStreamIsIdleWhenNothingMovesEitherWay) {
  auto& server = backend(hold);
  options.stream_idle_timeout = 200ms;
  start();
  StreamLog& call = client().call(http2::testing::grpc_request(), false);
  StreamLog& request = *arrivals(server, 1)[0];
  request.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
  for (int i = 0; i < 12; ++i) {
    settle(50ms);
    (i % 2 ? call : request).stream->send_data(slice_of("x"), false);
  }
  ASSERT_FALSE(complete(call)) << "three times the timeout, but never silent for one";
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 4);
  EXPECT_TRUE(recorded_becomes("200 grpc 4 SI x1"));
}

TEST_F(DeadlineTest, ExpiryIsDeadlineExceededAndCancelsTheRequest) {
  auto& server = backend(hold);
  start();
  const base::Instant begun = base::MonotonicClock::now();
  StreamLog& call = client().call(request_with_timeout("150m"), true);
  const auto requests = arrivals(server, 1);
  ASSERT_TRUE(until_complete(call));
  EXPECT_GE(base::MonotonicClock::now() - begun, 150ms);
  EXPECT_TRUE(trailers_only(call));
  EXPECT_EQ(grpc_status(call), 4);
  ASSERT_TRUE(until([&] { return requests[0]->reset.has_value(); }));
  EXPECT_EQ(requests[0]->reset->error_code, http::kCancel);
  EXPECT_TRUE(recorded_becomes("200 grpc 4 UT x1"));
}

// grpc-go's servers do that; whether the reset or the timer is seen first must make no difference.
TEST_F(DeadlineTest, AResetAtTheDeadlineIsDeadlineExceeded) {
  auto& server = backend(hold);
  start();
  const SlowTurns slow(*this, 60ms);
  for (size_t calls = 1; calls <= 10; ++calls) {
    StreamLog& call = client().call(request_with_timeout("200m"), true);
    StreamLog& request = *arrivals(server, calls).back();
    const base::Instant begun = base::MonotonicClock::now();  // the server's deadline is later than weir's
    ASSERT_TRUE(until([&] { return base::MonotonicClock::now() - begun > 200ms; }));
    if (!request.reset) request.stream->release(http::kCancel);
    ASSERT_TRUE(until_complete(call));
    EXPECT_EQ(grpc_status(call), 4);
  }
}

TEST_F(DeadlineTest, ExpiryAfterTheResponseHasBegunEndsItWithTrailers) {
  auto& server = backend(hold);
  start();
  StreamLog& call = client().call(request_with_timeout("200m"), true);
  const auto requests = arrivals(server, 1);
  requests[0]->stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
  requests[0]->stream->send_data(slice_of("part"), false);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(call.body, "part");
  ASSERT_TRUE(call.trailers);
  EXPECT_EQ(grpc_status(call), 4);
  EXPECT_TRUE(until([&] { return requests[0]->reset.has_value(); }));
}

TEST_F(DeadlineTest, ExpiryWhileWaitingForAConnectionIsDeadlineExceeded) {
  backend<RawBackend>();
  start();
  StreamLog& call = client().call(request_with_timeout("50m"), true);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 4);
  EXPECT_TRUE(recorded_becomes("200 grpc 4 UT x1"));
}

TEST_F(DeadlineTest, TimeoutOfZeroAndNonsenseDoNoHarm) {
  auto& server = backend(hold);
  start();
  Wire& app = client();
  StreamLog& zero = app.call(request_with_timeout("0n"), true);
  StreamLog& nonsense = app.call(request_with_timeout("soon"), true);
  ASSERT_TRUE(until_complete(zero));
  EXPECT_EQ(grpc_status(zero), 4);
  ASSERT_TRUE(until([&] { return server.request_count() >= 1; }));
  echo(*server.requests().back());
  ASSERT_TRUE(until_complete(nonsense));
  EXPECT_EQ(grpc_status(nonsense), 0);
  EXPECT_EQ(field(server.requests().back()->heads[0], "grpc-timeout"), "soon");
}

TEST_F(DeadlineTest, CancelledCallIsCancelledAtTheBackend) {
  auto& server = backend(hold);
  start();
  Wire& app = client();
  StreamLog& call = app.unary();
  StreamLog& other = app.unary("other");
  const auto requests = arrivals(server, 2);
  call.release(http::kCancel);
  ASSERT_TRUE(until([&] { return requests[0]->reset || requests[1]->reset; }));
  StreamLog& cancelled = requests[0]->reset ? *requests[0] : *requests[1];
  StreamLog& running = requests[0]->reset ? *requests[1] : *requests[0];
  EXPECT_EQ(cancelled.reset->error_code, http::kCancel);
  EXPECT_EQ(cancelled.reset->origin, http::Reset::Origin::peer);
  EXPECT_EQ(running.body, "other");
  EXPECT_TRUE(recorded_becomes("0 grpc -1 DC x1"));
  echo(running);
  ASSERT_TRUE(until_complete(other));
  EXPECT_EQ(grpc_status(other), 0);
  EXPECT_EQ(server.open_connections(), 1u);
}

TEST_F(DeadlineTest, CallsOfAClientThatDisconnectsAreCancelledAtTheBackend) {
  auto& server = backend(hold);
  start();
  for (const size_t round : {1, 2}) {
    Wire& app = client();
    for (int i = 0; i < 20; ++i) app.unary();
    const auto requests = arrivals(server, 20 * round);
    round == 1 ? app.close() : app.abort();
    ASSERT_TRUE(until([&] {
      return std::all_of(requests.begin(), requests.end(), [](StreamLog* r) { return r->reset.has_value(); });
    }));
    for (StreamLog* request : requests) EXPECT_EQ(request->reset->error_code, http::kCancel);
  }
  EXPECT_TRUE(recorded_becomes("0 grpc -1 DC x40"));
}

TEST_F(DeadlineTest, CallCancelledWhileItWaitsForAConnectionIsForgotten) {
  auto& silent = backend<RawBackend>();
  start();
  Wire& app = client();
  StreamLog& call = app.unary();
  StreamLog& other = app.unary("other");
  ASSERT_TRUE(until([&] { return silent.connections.size() == 1; }));
  call.release(http::kCancel);
  ASSERT_TRUE(recorded_becomes("0 grpc -1 DC x1"));
  remove_endpoint(silent.address());
  auto& server = backend();
  apply();
  ASSERT_TRUE(until_complete(other));
  EXPECT_EQ(server.request_count(), 1u);
}

}  // namespace
}  // namespace weir::proxy::testing
