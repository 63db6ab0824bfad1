// Windows in both directions, and bodies that wait.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "endpoint.h"

namespace weir::http2::testing {
namespace {

using ::testing::ElementsAre;

// The DATA frames among `frames`: stream, size.
std::vector<std::pair<uint32_t, size_t>> data_frames(const std::vector<Frame>& frames) {
  std::vector<std::pair<uint32_t, size_t>> data;
  for (const Frame& f : frames) {
    if (f.is(FrameType::data)) data.emplace_back(f.header.stream_id, f.payload.size());
  }
  return data;
}

// The WINDOW_UPDATE frames among `frames`: stream, increment.
std::vector<std::pair<uint32_t, uint32_t>> window_updates(const std::vector<Frame>& frames) {
  std::vector<std::pair<uint32_t, uint32_t>> updates;
  for (const Frame& f : frames) {
    if (f.is(FrameType::window_update)) updates.emplace_back(f.header.stream_id, f.u32());
  }
  return updates;
}

size_t total(const std::vector<std::pair<uint32_t, size_t>>& data) {
  return std::accumulate(data.begin(), data.end(), size_t{0}, [](size_t sum, const auto& d) { return sum + d.second; });
}

class SendingTest : public ::testing::Test {
 protected:
  StreamLog& request(uint32_t id) {
    peer.send_headers(id, grpc_request(), true);
    StreamLog& log = *peer.engine.logs.back();
    log.stream->send_headers(to_headers({{":status", "200"}}), false);
    return log;
  }
  void settings(Setting id, uint32_t value) { peer.send(FrameType::settings, 0, 0, setting(id, value)); }
  void window(uint32_t id, uint32_t increment) { peer.send(FrameType::window_update, 0, id, u32_text(increment)); }

  ScriptedPeer peer{Role::server};
};

TEST_F(SendingTest, StopsAtTheStreamsWindow) {
  window(0, 1 << 20);
  StreamLog& log = request(1);
  const size_t sent = log.stream->send_data(slice_of(std::string(100000, 'x')), true);
  EXPECT_EQ(sent, 65535u);
  EXPECT_FALSE(log.stream->all_sent());
  EXPECT_EQ(total(data_frames(peer.read())), 65535u);
  EXPECT_FALSE(peer.engine.connection.wants_write()) << "nothing can be framed, so nothing may be asked for";
  window(1, 1000);
  EXPECT_THAT(data_frames(peer.read()), ElementsAre(std::pair(1u, size_t{1000})));
  EXPECT_EQ(log.sent, 1000u);
  window(1, 100000);
  const auto frames = peer.read();
  EXPECT_EQ(total(data_frames(frames)), 100000u - 65535 - 1000);
  EXPECT_TRUE(frames.back().header.has(kFlagEndStream));
  EXPECT_TRUE(log.stream->all_sent());
}

TEST_F(SendingTest, StopsAtTheConnectionsWindow) {
  settings(Setting::initial_window_size, 1 << 20);
  StreamLog& a = request(1);
  StreamLog& b = request(3);
  EXPECT_EQ(a.stream->send_data(slice_of(std::string(60000, 'x')), false), 60000u);
  EXPECT_EQ(b.stream->send_data(slice_of(std::string(60000, 'x')), false), 5535u);
  EXPECT_EQ(a.stream->send_data(slice_of("more"), false), 0u) << "who waits goes first";
  peer.read();
  window(0, 54465 + 3);
  EXPECT_EQ(total(data_frames(peer.read())), 54468u);
  window(0, 100);
  EXPECT_EQ(total(data_frames(peer.read())), 1u);
  EXPECT_EQ(a.sent + b.sent, 54465u + 4);
}

TEST_F(SendingTest, NewBytesDoNotOvertakeStreamsThatWait) {
  settings(Setting::initial_window_size, 1 << 20);
  StreamLog& waiting = request(1);
  StreamLog& late = request(3);
  waiting.stream->send_data(slice_of(std::string(70000, 'x')), true);
  peer.read();
  window(0, 5000);
  EXPECT_EQ(late.stream->send_data(slice_of("late"), true), 0u);
  EXPECT_THAT(data_frames(peer.read()), ElementsAre(std::pair(1u, size_t{4465}), std::pair(3u, size_t{4})));
}

TEST_F(SendingTest, InitialWindowSizeMovesOpenStreams) {
  StreamLog& log = request(1);
  window(0, 1 << 20);
  log.stream->send_data(slice_of(std::string(100000, 'x')), true);
  peer.read();
  settings(Setting::initial_window_size, 65535 + 10);
  EXPECT_EQ(total(data_frames(peer.read())), 10u);
  // Negative: -35 of the stream's window.
  settings(Setting::initial_window_size, 65510);
  window(1, 35);
  EXPECT_EQ(total(data_frames(peer.read())), 0u);
  window(1, 1);
  EXPECT_EQ(total(data_frames(peer.read())), 1u);
  settings(Setting::initial_window_size, 0);
  EXPECT_EQ(total(data_frames(peer.read())), 0u);
  settings(Setting::initial_window_size, 1 << 20);
  EXPECT_EQ(total(data_frames(peer.read())), 100000u - 65535 - 10 - 1);
  EXPECT_TRUE(log.stream->all_sent());
}

TEST_F(SendingTest, ObeysMaxFrameSize) {
  window(0, 1 << 20);
  settings(Setting::initial_window_size, 1 << 20);
  StreamLog& log = request(1);
  peer.read();
  log.stream->send_data(slice_of(std::string(40000, 'x')), false);
  EXPECT_THAT(data_frames(peer.read()),
              ElementsAre(std::pair(1u, size_t{16384}), std::pair(1u, size_t{16384}), std::pair(1u, size_t{7232})));
  settings(Setting::max_frame_size, 65536);
  log.stream->send_data(slice_of(std::string(40000, 'x')), true);
  EXPECT_THAT(data_frames(peer.read()), ElementsAre(std::pair(1u, size_t{40000})));
}

TEST_F(SendingTest, WaitingStreamsTakeTurns) {
  StreamLog* logs[] = {&request(1), &request(3), &request(5)};
  settings(Setting::initial_window_size, 1 << 20);
  for (StreamLog* log : logs) log->stream->send_data(slice_of(std::string(60000, 'x')), true);
  peer.read();
  window(0, 6 * 16384);
  const auto data = data_frames(peer.read());
  std::map<uint32_t, size_t> share;
  for (const auto& [id, size] : data) share[id] += size;
  EXPECT_EQ(share[3], 3 * size_t{16384});
  EXPECT_EQ(share[5], 3 * size_t{16384});
  EXPECT_EQ(data[0].first + data[1].first, 8u);
}

TEST_F(SendingTest, TrailersGoAfterTheBodyThatWaits) {
  StreamLog& log = request(1);
  bool all_sent_in_event = false;
  log.after = [&](StreamLog& l) { all_sent_in_event = l.stream->all_sent(); };
  log.stream->send_data(slice_of(std::string(65536, 'x')), false);
  log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  peer.read();
  window(0, 1);
  window(1, 1);
  const auto frames = peer.read();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_TRUE(frames[0].is(FrameType::data) && !frames[0].header.has(kFlagEndStream));
  EXPECT_TRUE(frames[1].is(FrameType::headers) && frames[1].header.has(kFlagEndStream));
  EXPECT_TRUE(all_sent_in_event);
  log.release();
  EXPECT_FALSE(peer.engine.connection.wants_write());
}

TEST_F(SendingTest, TheBudgetHoldsBodiesBack) {
  window(0, 64 << 20);
  settings(Setting::initial_window_size, 64 << 20);
  StreamLog& log = request(1);
  const size_t sent = log.stream->send_data(slice_of(std::string(1 << 20, 'x')), true);
  EXPECT_GE(sent, kOutputBudget - 16384);
  EXPECT_LE(sent, kOutputBudget + 16384);
  // With the socket full nothing more is framed.
  std::array<iovec, 64> out;
  peer.engine.connection.gather(out);
  peer.engine.connection.written(0);
  EXPECT_EQ(log.sent, 0u);
  EXPECT_EQ(total(data_frames(peer.read())), size_t{1} << 20);
  EXPECT_TRUE(log.stream->all_sent());
}

TEST_F(SendingTest, ADripIsCopiedTogether) {
  StreamLog& log = request(1);
  settings(Setting::initial_window_size, 0);
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string part = std::to_string(i) + ";";
    expected += part;
    log.stream->send_data(slice_of(part), false);
  }
  peer.read();
  settings(Setting::initial_window_size, 65535);
  const auto frames = peer.read();
  std::string got;
  for (const Frame& f : frames) {
    if (f.is(FrameType::data)) got += f.payload;
  }
  EXPECT_EQ(got, expected);
  EXPECT_EQ(data_frames(frames).size(), 1u) << "waiting slices are merged into one frame";
}

TEST_F(SendingTest, AReleasedStreamDropsWhatWaits) {
  StreamLog& log = request(1);
  log.stream->send_data(slice_of(std::string(100000, 'x')), true);
  peer.read();
  log.release(http::kCancel);
  EXPECT_EQ(peer.verdict(), "RST 1 8");
  window(0, 100000);
  EXPECT_FALSE(peer.engine.connection.wants_write());
}

TEST_F(SendingTest, EmptyBodiesAndEnds) {
  StreamLog& log = request(1);
  peer.read();
  settings(Setting::initial_window_size, 0);
  peer.read();
  EXPECT_EQ(log.stream->send_data(base::Slice(), false), 0u);
  EXPECT_FALSE(peer.engine.connection.wants_write());
  EXPECT_EQ(log.stream->send_data(base::Slice(), true), 0u);
  const auto frames = peer.read();
  ASSERT_EQ(frames.size(), 1u) << "the end needs no window";
  EXPECT_TRUE(frames[0].is(FrameType::data) && frames[0].header.has(kFlagEndStream) && frames[0].payload.empty());
  EXPECT_EQ(log.stream->send_data(slice_of("late"), true), 0u);
  EXPECT_FALSE(peer.engine.connection.wants_write());
}

class ReceivingTest : public ::testing::Test {
 protected:
  static Limits limits() {
    Limits l;
    l.initial_stream_window = 70000;
    l.connection_window = 100000;
    return l;
  }
  StreamLog& request(uint32_t id) {
    peer.send_headers(id, grpc_request(), false);
    StreamLog& log = *peer.engine.logs.back();
    log.consume_at_once = false;
    return log;
  }
  void data(uint32_t id, size_t size) {
    for (; size > 0; size -= std::min<size_t>(size, 16384)) {
      peer.send_data(id, std::string(std::min<size_t>(size, 16384), 'x'), false);
    }
  }

  ScriptedPeer peer{Role::server, limits()};
};

TEST_F(ReceivingTest, ABodyBeyondTheStreamsWindowResetsIt) {
  StreamLog& log = request(1);
  data(1, 70000);
  EXPECT_EQ(peer.verdict(), "");
  data(1, 1);
  EXPECT_EQ(peer.verdict(), "RST 1 3");
  EXPECT_EQ(log.reset->origin, http::Reset::Origin::local);
}

TEST_F(ReceivingTest, BodiesBeyondTheConnectionsWindowEndIt) {
  request(1);
  request(3);
  data(1, 60000);
  data(3, 40000);
  EXPECT_EQ(peer.verdict(), "");
  data(3, 1);
  EXPECT_EQ(peer.verdict(), "GOAWAY 3");
}

TEST_F(ReceivingTest, UpdatesAreCoalescedToHalfAWindow) {
  StreamLog& log = request(1);
  data(1, 60000);
  log.stream->consume(34999);
  EXPECT_TRUE(peer.read().empty());
  log.stream->consume(1);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(1u, 35000u)));
  log.stream->consume(15000);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 50000u)));
}

TEST_F(ReceivingTest, NobodyCanConsumeMoreThanThereIs) {
  StreamLog& log = request(1);
  data(1, 40000);
  log.stream->consume(SIZE_MAX);
  log.stream->consume(SIZE_MAX);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(1u, 40000u)));
}

TEST_F(ReceivingTest, AReleasedStreamGivesTheConnectionsWindowBack) {
  StreamLog& log = request(1);
  data(1, 60000);
  log.stream->consume(1000);
  log.release(http::kCancel);
  const auto frames = peer.read();
  EXPECT_THAT(window_updates(frames), ElementsAre(std::pair(0u, 60000u)));
  // What is still on its way counts too, and comes back too.
  data(1, 60000);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 60000u)));
}

TEST_F(ReceivingTest, WhatIsLentLeavesTheConnectionsWindowToOthers) {
  for (const uint32_t id : {1u, 3u, 5u}) {
    request(id);
    data(id, 60000);
    peer.engine.connection.lend();
    EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 60000u)));
  }
  EXPECT_EQ(peer.verdict(), "");
}

TEST_F(ReceivingTest, WhatIsLentComesBackOnce) {
  StreamLog& log = request(1);
  data(1, 60000);
  peer.engine.connection.lend();
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 60000u)));
  log.stream->consume(60000);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(1u, 60000u)));
  data(1, 60000);
  log.release(http::kCancel);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 60000u)));
  request(3);
  data(3, 70000);
  request(5);
  data(5, 30000);
  EXPECT_EQ(peer.verdict(), "");
  data(5, 1);
  EXPECT_EQ(peer.verdict(), "GOAWAY 3");
}

TEST_F(ReceivingTest, ReleaseInTheMiddleOfAFrame) {
  StreamLog& log = request(1);
  log.after = [](StreamLog& l) { l.release(http::kCancel); };
  const std::string bytes = frame(FrameType::data, 0, 1, std::string(16000, 'x'));
  for (int i = 0; i < 4; ++i) {
    peer.send(bytes.substr(0, 5000));
    peer.send(bytes.substr(5000));
  }
  EXPECT_EQ(log.body.size(), 5000u - kFrameHeaderSize);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 64000u)));
}

TEST_F(ReceivingTest, PaddingCountsAndComesBack) {
  StreamLog& log = request(1);
  // 200 bytes of padding, its length, and 10 of payload.
  const std::string payload = "\xc8" + std::string(10, 'x') + std::string(200, '\0');
  for (int i = 0; i < 300; ++i) peer.send(FrameType::data, kFlagPadded, 1, payload);
  EXPECT_EQ(log.body.size(), 3000u);
  uint32_t stream = 0, connection = 0;
  for (const auto& [id, n] : window_updates(peer.read())) (id ? stream : connection) += n;
  EXPECT_EQ(connection, 300u * 201);
  EXPECT_EQ(stream, 300u * 201);
}

TEST_F(ReceivingTest, PaddingOnlyAndTheEnd) {
  for (const size_t at_a_time : {size_t{1000}, size_t{1}, size_t{10}}) {
    for (const std::string& payload : {std::string("\0", 1), std::string("\x05") + std::string(5, '\0'),
                                       std::string("\x05") + "abc" + std::string(5, '\0')}) {
      const auto id = static_cast<uint32_t>(2 * peer.engine.logs.size() + 1);
      StreamLog& log = request(id);
      peer.engine.input(frame(FrameType::data, kFlagPadded | kFlagEndStream, id, payload), at_a_time);
      EXPECT_TRUE(log.ended);
      EXPECT_EQ(log.body, payload.size() > 6 ? "abc" : "");
    }
  }
  EXPECT_EQ(peer.verdict(), "");
}

TEST_F(ReceivingTest, NoUpdateForAStreamThatHasEnded) {
  StreamLog& log = request(1);
  data(1, 60000);
  peer.send_data(1, "", true);
  log.stream->consume(60000);
  EXPECT_THAT(window_updates(peer.read()), ElementsAre(std::pair(0u, 60000u)));
}

TEST(UnacknowledgedSettingsTest, ThePeerMayUseTheDefaultWindow) {
  Limits limits;
  limits.initial_stream_window = 1000;
  ScriptedPeer peer(Role::server, limits, false);
  peer.send(kPreface);
  peer.send(FrameType::settings, 0, 0, "");
  peer.send_headers(1, grpc_request(), false);
  StreamLog& log = *peer.engine.logs.back();
  log.consume_at_once = false;
  peer.send_data(1, std::string(16000, 'x'), false);
  EXPECT_EQ(peer.verdict(), "");
  // From the acknowledgement on the window is 1000 - 16000.
  peer.send(FrameType::settings, kFlagAck, 0, "");
  peer.send_data(1, "x", false);
  EXPECT_EQ(peer.verdict(), "RST 1 3");
  peer.send_headers(3, grpc_request(), false);
  peer.send_data(3, std::string(1001, 'x'), false);
  EXPECT_EQ(peer.verdict(), "RST 3 3");
}

}  // namespace
}  // namespace weir::http2::testing
