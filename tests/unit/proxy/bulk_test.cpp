// Large bodies: every byte arrives, and a reader that is slow holds up the sender
// instead of filling the agent.
#include <cstring>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

// Bytes that say where they belong: any loss, repetition or swap shows.
class Pattern {
 public:
  Pattern() {
    uint64_t x = 88172645463325252ull;
    for (char& c : block_) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      c = static_cast<char>(x);
    }
  }
  std::string_view at(uint64_t position, size_t size) const {
    const size_t offset = position % block_.size();
    return std::string_view(block_).substr(offset, std::min(size, block_.size() - offset));
  }
  bool matches(uint64_t position, std::string_view bytes) const {
    while (!bytes.empty()) {
      const std::string_view expected = at(position, bytes.size());
      if (bytes.substr(0, expected.size()) != expected) return false;
      bytes.remove_prefix(expected.size());
      position += expected.size();
    }
    return true;
  }

 private:
  std::string block_ = std::string(1'000'003, '\0');  // a prime: blocks don't align with frames
};

const Pattern pattern;

// Sends `total` bytes of the pattern on a stream, a piece whenever the last one is gone.
struct Source {
  explicit Source(uint64_t bytes) : total(bytes) {}
  uint64_t total, position = 0;
  // True once all has been given to the stream.
  bool feed(http::Stream& stream) {
    while (position < total && stream.all_sent()) {
      const auto piece = pattern.at(position, static_cast<size_t>(std::min<uint64_t>(total - position, 64 * 1024)));
      position += piece.size();
      stream.send_data(slice_of(piece), false);
    }
    return position == total;
  }
};

// Takes what a log has received, checking it.
struct Sink {
  uint64_t position = 0;
  bool intact = true;
  void take(StreamLog& log) {
    intact = intact && pattern.matches(position, log.body);
    position += log.body.size();
    log.body.clear();
  }
};

constexpr uint64_t kTotal = 50u << 20;

struct BulkTest : Lab {
  BulkTest() { options.limits = small_windows(); }
  static http2::Limits small_windows() {
    http2::Limits limits;
    limits.initial_stream_window = 64 * 1024;
    limits.connection_window = 128 * 1024;
    return limits;
  }
  // What received bodies may pin: in each direction a connection window, in buffers that are at worst filled by one
  // frame each; and what waits in the ring. Rounded up to the blocks in which buffers are allocated.
  static uint32_t most_buffers(uint32_t connections) {
    constexpr uint32_t kRing = 256, kBlock = 64;
    const uint32_t held = connections * 128 * 1024 / 16384 * 16;
    return (kRing + held + kBlock - 1) / kBlock * kBlock;
  }
};

TEST_F(BulkTest, FiftyMegabytesEachWayThroughSmallWindowsInBoundedMemory) {
  Source up(kTotal), down(kTotal);
  Sink at_server, at_client;
  bool answered = false;
  auto& server = backend(
      [&](StreamLog& log) {
        if (!log.stream) return;
        if (!std::exchange(answered, true)) {
          log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
        }
        at_server.take(log);
      },
      small_windows());
  start();
  Wire& app = client(small_windows());
  StreamLog& call = app.call();
  bool request_done = false, response_done = false;
  uint32_t most = 0;
  ASSERT_TRUE(until(
      [&] {
        if (call.stream && !request_done && up.feed(*call.stream)) {
          request_done = true;
          call.stream->send_data({}, true);
        }
        at_client.take(call);
        StreamLog* request = server.only_request();
        // Trailers before the request's end would stop the request.
        if (request && request->stream && !response_done && down.feed(*request->stream) && request->ended) {
          response_done = true;
          request->stream->send_trailers(to_headers({{"grpc-status", "0"}}));
        }
        most = std::max(most, receive_buffers());
        return complete(call) && request && request->ended;
      },
      20s));
  at_server.take(*server.only_request());
  at_client.take(call);
  EXPECT_TRUE(at_server.intact);
  EXPECT_TRUE(at_client.intact);
  EXPECT_EQ(at_server.position, kTotal);
  EXPECT_EQ(at_client.position, kTotal);
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_LE(most, most_buffers(2));
  const auto all = totals();
  ASSERT_EQ(all.rpcs.size(), 1u);
  EXPECT_EQ(all.rpcs.begin()->second.request_bytes.sum, kTotal);
  EXPECT_EQ(all.rpcs.begin()->second.response_bytes.sum, kTotal);
}

TEST_F(BulkTest, ClientThatDoesNotConsumeStopsTheBackendAfterAWindow) {
  Source down(8u << 20);
  auto& server = backend([](StreamLog& log) {
    if (log.stream && log.ended && log.sent == 0 && log.stream->all_sent())
      log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.ended = false;
  });
  start();
  Wire& app = client(small_windows());
  app.endpoint.consume_at_once = false;
  StreamLog& call = app.call(http2::testing::grpc_request(), true);
  bool done = false;
  const auto feed = [&] {
    StreamLog* request = server.only_request();
    if (!request || !request->stream || done) return;
    if ((done = down.feed(*request->stream))) request->stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  };
  ASSERT_FALSE(until([&] { return feed(), complete(call); }, 200ms));
  // The client's own window, and one window of the agent's.
  const StreamLog& request = *server.only_request();
  EXPECT_EQ(call.body.size(), 64u * 1024);
  EXPECT_LE(down.position, 3u * 64 * 1024);
  EXPECT_FALSE(request.stream->all_sent());
  EXPECT_LE(receive_buffers(), most_buffers(2));

  // Another call is not held up: it has a window of its own, and the connection's has room.
  Sink sink;
  call.consume_at_once = true;
  call.stream->consume(call.body.size());
  ASSERT_TRUE(until([&] { return feed(), sink.take(call), complete(call); }));
  sink.take(call);
  EXPECT_TRUE(sink.intact);
  EXPECT_EQ(sink.position, down.total);
}

TEST_F(BulkTest, BackendThatDoesNotConsumeStopsTheClientAfterAWindow) {
  auto& server = backend([](StreamLog&) {}, small_windows());
  server.consume_at_once = false;
  start();
  Source up(8u << 20);
  StreamLog& call = client().call();
  ASSERT_FALSE(until([&] { return up.feed(*call.stream); }, 200ms));
  EXPECT_EQ(server.only_request()->body.size(), 64u * 1024);
  EXPECT_LE(up.position, 4u * 64 * 1024);
}

TEST_F(BulkTest, BodyThatWaitsForAConnectionIsHeldBackByItsWindow) {
  auto& silent = backend<RawBackend>();
  start();
  Source up(8u << 20);
  StreamLog& call = client().call();
  ASSERT_FALSE(until([&] { return up.feed(*call.stream); }, 200ms));
  EXPECT_LE(up.position, 3u * 64 * 1024);
  Sink sink;
  backend([&](StreamLog& log) {
    sink.take(log);
    echo(log);
  });
  remove_endpoint(silent.address());
  apply();
  bool done = false;
  ASSERT_TRUE(until([&] {
    if (call.stream && !done && (done = up.feed(*call.stream))) call.stream->send_data({}, true);
    return complete(call);
  }));
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_TRUE(sink.intact);
  EXPECT_EQ(sink.position, up.total);
}

// Two of them hold what the connection's window has.
TEST_F(BulkTest, ResponsesThatAreNotReadDoNotHoldUpOthers) {
  auto& server = backend([](StreamLog& log) {
    if (!log.stream || !log.ended || log.heads.empty()) return;
    log.heads.clear();
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.stream->send_data(slice_of(pattern.at(0, 512 * 1024)), false);
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  });
  start();
  constexpr size_t kUnread = 8;
  for (size_t i = 0; i < kUnread; ++i) {
    Wire& app = client(small_windows());
    app.endpoint.consume_at_once = false;
    StreamLog& call = app.call(http2::testing::grpc_request(), true);
    ASSERT_TRUE(until([&] { return call.body.size() == 64 * 1024; })) << i << " responses came";
  }
  StreamLog& call = client().call(http2::testing::grpc_request(), true);
  ASSERT_TRUE(until([&] { return complete(call); }));
  EXPECT_EQ(call.body.size(), 512u * 1024);
  EXPECT_EQ(stats().upstream_connections.value(), 1u);
  EXPECT_EQ(server.request_count(), kUnread + 1);
}

// Each response fits into its stream's window, so that the backend could send all of every one. It may until they take
// a quarter of the pod's memory.
TEST_F(BulkTest, CompleteResponsesThatAreNotReadStopTheBackendAfterAWindow) {
  options.limits = {};
  options.pod_limits.max_memory = 8u << 20;
  constexpr size_t kSize = 512 * 1024, kCalls = 24;
  auto& server = backend([](StreamLog& log) {
    if (!log.stream || !log.ended || log.heads.empty()) return;
    log.heads.clear();
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    for (size_t at = 0; at < kSize; at += 64 * 1024) log.stream->send_data(slice_of(pattern.at(at, 64 * 1024)), false);
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  });
  start();
  Wire& app = client(small_windows());
  app.endpoint.consume_at_once = false;
  const auto finished = [&] {
    const auto all = server.requests();
    return static_cast<size_t>(
        std::count_if(all.begin(), all.end(), [](StreamLog* r) { return r->stream->all_sent(); }));
  };
  std::vector<StreamLog*> calls;
  for (size_t i = 0; i < kCalls; ++i) {
    calls.push_back(&app.call(http2::testing::grpc_request(), true));
    until([&] { return finished() == i + 1; }, finished() == i ? 100ms : 1ms);
  }
  ASSERT_TRUE(until([&] { return server.request_count() == kCalls; }));
  EXPECT_LE(finished() * kSize, options.pod_limits.max_memory / 4 + options.limits.connection_window);

  std::vector<Sink> sinks(kCalls);
  ASSERT_TRUE(until([&] {
    for (size_t i = 0; i < kCalls; ++i) {
      calls[i]->stream->consume(calls[i]->body.size());
      sinks[i].take(*calls[i]);
    }
    return std::all_of(calls.begin(), calls.end(), [](StreamLog* c) { return c->ended; });
  }));
  for (const Sink& sink : sinks) {
    EXPECT_TRUE(sink.intact);
    EXPECT_EQ(sink.position, kSize);
  }
  EXPECT_EQ(finished(), kCalls);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x" + std::to_string(kCalls)));
}

// The bytes of a complete response are on their way when its backend goes away.
TEST_F(BulkTest, CompleteResponseOutlivesItsBackend) {
  constexpr size_t kSize = 120 * 1024;
  auto& server = backend([](StreamLog& log) {
    if (!log.stream || !log.ended || log.heads.empty()) return;
    log.heads.clear();
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.stream->send_data(slice_of(pattern.at(0, kSize)), false);
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  });
  start();
  Wire& app = client(small_windows());
  app.endpoint.consume_at_once = false;
  StreamLog& call = app.call(http2::testing::grpc_request(), true);
  ASSERT_TRUE(until([&] { return server.request_count() == 1 && server.only_request()->stream->all_sent(); }));
  settle(20ms);
  server.die();
  ASSERT_TRUE(until([&] { return stats().upstream_connections.value() == 0; }));
  Sink sink;
  ASSERT_TRUE(until([&] {
    call.stream->consume(call.body.size());
    sink.take(call);
    return call.ended;
  }));
  EXPECT_TRUE(sink.intact);
  EXPECT_EQ(sink.position, kSize);
  EXPECT_EQ(grpc_status(call), 0);
  EXPECT_TRUE(recorded_becomes("200 grpc 0 - x1"));
}

// All receive buffers would be held by bodies that wait for WINDOW_UPDATEs, which could then not be received.
TEST_F(BulkTest, SlowClientsDoNotTakeTheBuffersFromOthers) {
  options.limits = {};
  options.reactor.max_receive_buffers = 128;  // 2 MiB; each of the slow ones could hold 4
  auto& server = backend([](StreamLog& log) {
    if (!log.stream || !log.ended || !log.stream->all_sent()) return;
    log.ended = false;
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    for (uint64_t at = 0; at < (3u << 20);) {
      const auto piece = pattern.at(at, 64 * 1024);
      log.stream->send_data(slice_of(piece), false);
      at += piece.size();
    }
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  });
  start();
  std::vector<StreamLog*> slow;
  std::vector<Wire*> apps;
  for (int i = 0; i < 3; ++i) {
    apps.push_back(&client());
    apps.back()->endpoint.consume_at_once = false;
    for (int j = 0; j < 3; ++j) slow.push_back(&apps.back()->unary("slow"));
  }
  ASSERT_TRUE(until([&] { return server.request_count() == slow.size(); }));
  settle(100ms);
  // Elsewhere: slow calls may well use up the window of the connection that they share.
  remove_endpoint(server.address());
  backend();
  apply();
  StreamLog& fast = client().unary("fast");
  EXPECT_TRUE(until_complete(fast, 3s));
  EXPECT_EQ(grpc_status(fast), 0);

  std::vector<Sink> sinks(slow.size());
  ASSERT_TRUE(until(
      [&] {
        bool all = true;
        for (size_t i = 0; i < slow.size(); ++i) {
          if (slow[i]->stream) slow[i]->stream->consume(slow[i]->body.size());
          sinks[i].take(*slow[i]);
          all = all && complete(*slow[i]);
        }
        return all;
      },
      20s));
  for (const Sink& sink : sinks) {
    EXPECT_TRUE(sink.intact);
    EXPECT_GE(sink.position, 3u << 20);
  }
}

}  // namespace
}  // namespace weir::proxy::testing
