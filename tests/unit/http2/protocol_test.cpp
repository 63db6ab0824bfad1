// What the engine answers to a peer that keeps or breaks RFC 9113's rules, frame by frame.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "endpoint.h"

namespace weir::http2::testing {
namespace {

using Script = std::function<void(ScriptedPeer&)>;

struct Case {
  const char* name;
  Script script;
  const char* verdict;  // as ScriptedPeer::verdict() writes it
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

constexpr uint8_t kWhole = kFlagEndHeaders;

void open(ScriptedPeer& p, uint32_t id) { p.send_headers(id, grpc_request(), false); }
void open_and_end(ScriptedPeer& p, uint32_t id) { p.send_headers(id, grpc_request(), true); }
// Opens stream 1, completes it in both directions and lets the user release it.
void complete(ScriptedPeer& p) {
  open_and_end(p, 1);
  StreamLog& log = *p.engine.logs.back();
  log.stream->send_headers(to_headers({{":status", "200"}}), true);
  log.release();
}
// The user gives stream `id` up, which the peer may not know yet.
void cancel(ScriptedPeer& p, uint32_t id) {
  open(p, id);
  p.engine.logs.back()->release(http::kCancel);
  p.read();
}

class ServerRuleTest : public ::testing::TestWithParam<Case> {};

TEST_P(ServerRuleTest, Verdict) {
  ScriptedPeer peer(Role::server);
  GetParam().script(peer);
  EXPECT_EQ(peer.verdict(), GetParam().verdict) << peer.engine.connection.error();
  const bool failed = std::string_view(GetParam().verdict).substr(0, 6) == "GOAWAY";
  EXPECT_EQ(*peer.engine.connection.error() != '\0', failed);
  EXPECT_EQ(peer.engine.connection.finished(), failed);
  if (failed) {
    EXPECT_EQ(peer.engine.connection.open_streams(), 0u);
    peer.send(FrameType::ping, 0, 0, "12345678");
    EXPECT_FALSE(peer.engine.connection.wants_write()) << "nothing is processed after a connection error";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Frames, ServerRuleTest,
    ::testing::Values(
        Case{"DATA on stream 0", [](auto& p) { p.send_data(0, "x", false); }, "GOAWAY 1"},
        Case{"DATA on an idle stream", [](auto& p) { p.send_data(1, "x", false); }, "GOAWAY 1"},
        Case{"DATA with too much padding",
             [](auto& p) { open(p, 1); p.send(FrameType::data, kFlagPadded, 1, "\x05""abc"); }, "GOAWAY 1"},
        Case{"DATA padded without pad length",
             [](auto& p) { open(p, 1); p.send(FrameType::data, kFlagPadded, 1, ""); }, "GOAWAY 6"},
        Case{"DATA after END_STREAM", [](auto& p) { open_and_end(p, 1); p.send_data(1, "x", false); }, "RST 1 5"},
        Case{"DATA on a completed stream", [](auto& p) { complete(p); p.send_data(1, "x", false); }, "GOAWAY 5"},
        Case{"DATA after RST_STREAM",
             [](auto& p) { open(p, 1); p.send(FrameType::rst_stream, 0, 1, u32_text(8)); p.send_data(1, "x", false); },
             "RST 1 5"},
        Case{"DATA on a stream that we reset", [](auto& p) { cancel(p, 1); p.send_data(1, "x", true); }, ""},
        Case{"frame longer than allowed",
             [](auto& p) { open(p, 1); p.send_data(1, std::string(16385, 'x'), false); }, "GOAWAY 6"},
        Case{"HEADERS on stream 0", [](auto& p) { open(p, 0); }, "GOAWAY 1"},
        Case{"HEADERS on an even stream", [](auto& p) { open(p, 2); }, "GOAWAY 1"},
        Case{"HEADERS on a lower, skipped stream", [](auto& p) { open(p, 5); open(p, 3); }, "GOAWAY 1"},
        Case{"HEADERS after END_STREAM", [](auto& p) { open_and_end(p, 1); open_and_end(p, 1); }, "RST 1 5"},
        Case{"HEADERS on a completed stream", [](auto& p) { complete(p); open_and_end(p, 1); }, "GOAWAY 5"},
        Case{"HEADERS on a stream that we reset",
             [](auto& p) { cancel(p, 1); p.send_headers(1, {{"grpc-status", "1"}}, true); }, ""},
        Case{"HEADERS with too much padding",
             [](auto& p) { p.send(FrameType::headers, kWhole | kFlagPadded, 1, "\x10" + p.block(grpc_request()).substr(0, 3)); },
             "GOAWAY 1"},
        Case{"HEADERS padded without pad length",
             [](auto& p) { p.send(FrameType::headers, kWhole | kFlagPadded, 1, ""); }, "GOAWAY 6"},
        Case{"HEADERS with half a priority",
             [](auto& p) { p.send(FrameType::headers, kWhole | kFlagPriority, 1, "abc"); }, "GOAWAY 6"},
        Case{"HEADERS of a stream that depends on itself",
             [](auto& p) {
               p.send(FrameType::headers, kWhole | kFlagPriority, 1, u32_text(1) + "\x10" + p.block(grpc_request()));
             },
             "RST 1 1"},
        Case{"HEADERS that are not HPACK", [](auto& p) { p.send(FrameType::headers, kWhole, 1, "\xff\xff\xff\xff\xff"); },
             "GOAWAY 9"},
        Case{"HEADERS with a truncated field",
             [](auto& p) { const std::string b = p.block(grpc_request()); p.send(FrameType::headers, kWhole, 1, b.substr(0, b.size() - 1)); },
             "GOAWAY 9"},
        Case{"PING inside a header block",
             [](auto& p) { p.send(FrameType::headers, 0, 1, p.block(grpc_request())); p.send(FrameType::ping, 0, 0, "12345678"); },
             "GOAWAY 1"},
        Case{"unknown frame inside a header block",
             [](auto& p) { p.send(FrameType::headers, 0, 1, p.block(grpc_request())); p.send(static_cast<FrameType>(77), 0, 0, ""); },
             "GOAWAY 1"},
        Case{"CONTINUATION of another stream",
             [](auto& p) { p.send(FrameType::headers, 0, 1, ""); p.send(FrameType::continuation, kWhole, 3, p.block(grpc_request())); },
             "GOAWAY 1"},
        Case{"CONTINUATION without HEADERS", [](auto& p) { p.send(FrameType::continuation, kWhole, 1, "x"); }, "GOAWAY 1"},
        Case{"CONTINUATION after END_HEADERS",
             [](auto& p) { open(p, 1); p.send(FrameType::continuation, kWhole, 1, "x"); }, "GOAWAY 1"},
        Case{"trailers without END_STREAM", [](auto& p) { open(p, 1); p.send_headers(1, {{"a", "b"}}, false); }, "RST 1 1"},
        Case{"trailers with a pseudo-header field",
             [](auto& p) { open(p, 1); p.send_headers(1, {{":path", "/"}}, true); }, "RST 1 1"},
        Case{"malformed request", [](auto& p) { p.send_headers(1, {{":method", "GET"}}, true); }, "RST 1 1"},
        Case{"extended CONNECT",
             [](auto& p) {
               p.send_headers(1, {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}, false);
             },
             "RST 1 1"},
        Case{"content-length without body",
             [](auto& p) { Fields f = grpc_request(); f.emplace_back("content-length", "5"); p.send_headers(1, f, true); }, "RST 1 1"},
        Case{"body longer than content-length",
             [](auto& p) { Fields f = grpc_request(); f.emplace_back("content-length", "5"); p.send_headers(1, f, false); p.send_data(1, "123456", false); },
             "RST 1 1"},
        Case{"body shorter than content-length",
             [](auto& p) { Fields f = grpc_request(); f.emplace_back("content-length", "5"); p.send_headers(1, f, false); p.send_data(1, "1234", true); },
             "RST 1 1"},
        Case{"body shorter than content-length, by trailers",
             [](auto& p) { Fields f = grpc_request(); f.emplace_back("content-length", "5"); p.send_headers(1, f, false); p.send_headers(1, {{"a", "b"}}, true); },
             "RST 1 1"},
        Case{"body as long as content-length",
             [](auto& p) { Fields f = grpc_request(); f.emplace_back("content-length", "5"); p.send_headers(1, f, false); p.send_data(1, "123", false); p.send_data(1, "45", true); },
             ""},
        Case{"PRIORITY", [](auto& p) { p.send(FrameType::priority, 0, 1, u32_text(3) + "x"); }, ""},
        Case{"PRIORITY on stream 0", [](auto& p) { p.send(FrameType::priority, 0, 0, u32_text(3) + "x"); }, "GOAWAY 1"},
        Case{"PRIORITY of 4 bytes", [](auto& p) { open(p, 1); p.send(FrameType::priority, 0, 1, "abcd"); }, "RST 1 6"},
        Case{"PRIORITY on itself", [](auto& p) { open(p, 1); p.send(FrameType::priority, 0, 1, u32_text(1) + "x"); }, "RST 1 1"},
        Case{"PRIORITY on itself, idle", [](auto& p) { p.send(FrameType::priority, 0, 9, u32_text(9) + "x"); }, "GOAWAY 1"},
        Case{"PRIORITY on a completed stream", [](auto& p) { complete(p); p.send(FrameType::priority, 0, 1, u32_text(3) + "x"); }, ""},
        Case{"RST_STREAM on stream 0", [](auto& p) { p.send(FrameType::rst_stream, 0, 0, u32_text(8)); }, "GOAWAY 1"},
        Case{"RST_STREAM on an idle stream", [](auto& p) { p.send(FrameType::rst_stream, 0, 1, u32_text(8)); }, "GOAWAY 1"},
        Case{"RST_STREAM of 3 bytes", [](auto& p) { open(p, 1); p.send(FrameType::rst_stream, 0, 1, "abc"); }, "GOAWAY 6"},
        Case{"RST_STREAM on a completed stream",
             [](auto& p) { complete(p); p.send(FrameType::rst_stream, 0, 1, u32_text(8)); }, ""},
        Case{"SETTINGS on a stream", [](auto& p) { p.send(FrameType::settings, 0, 1, ""); }, "GOAWAY 1"},
        Case{"SETTINGS of 5 bytes", [](auto& p) { p.send(FrameType::settings, 0, 0, "abcde"); }, "GOAWAY 6"},
        Case{"SETTINGS ACK with payload",
             [](auto& p) { p.send(FrameType::settings, kFlagAck, 0, setting(Setting::max_frame_size, 16384)); }, "GOAWAY 6"},
        Case{"ENABLE_PUSH 2", [](auto& p) { p.send(FrameType::settings, 0, 0, setting(Setting::enable_push, 2)); }, "GOAWAY 1"},
        Case{"ENABLE_PUSH 1", [](auto& p) { p.send(FrameType::settings, 0, 0, setting(Setting::enable_push, 1)); }, ""},
        Case{"INITIAL_WINDOW_SIZE 2^31",
             [](auto& p) { p.send(FrameType::settings, 0, 0, setting(Setting::initial_window_size, 1u << 31)); }, "GOAWAY 3"},
        Case{"MAX_FRAME_SIZE 16383",
             [](auto& p) { p.send(FrameType::settings, 0, 0, setting(Setting::max_frame_size, 16383)); }, "GOAWAY 1"},
        Case{"MAX_FRAME_SIZE 2^24",
             [](auto& p) { p.send(FrameType::settings, 0, 0, setting(Setting::max_frame_size, 1 << 24)); }, "GOAWAY 1"},
        Case{"unknown setting", [](auto& p) { p.send(FrameType::settings, 0, 0, setting(static_cast<Setting>(99), 7)); }, ""},
        Case{"PUSH_PROMISE", [](auto& p) { p.send(FrameType::push_promise, kWhole, 1, u32_text(2)); }, "GOAWAY 1"},
        Case{"PING on a stream", [](auto& p) { p.send(FrameType::ping, 0, 1, "12345678"); }, "GOAWAY 1"},
        Case{"PING of 7 bytes", [](auto& p) { p.send(FrameType::ping, 0, 0, "1234567"); }, "GOAWAY 6"},
        Case{"GOAWAY on a stream", [](auto& p) { p.send(FrameType::goaway, 0, 1, u32_text(0) + u32_text(0)); }, "GOAWAY 1"},
        Case{"GOAWAY of 7 bytes", [](auto& p) { p.send(FrameType::goaway, 0, 0, "1234567"); }, "GOAWAY 6"},
        Case{"WINDOW_UPDATE of 3 bytes", [](auto& p) { p.send(FrameType::window_update, 0, 0, "abc"); }, "GOAWAY 6"},
        Case{"WINDOW_UPDATE by 0 on the connection", [](auto& p) { p.send(FrameType::window_update, 0, 0, u32_text(0)); }, "GOAWAY 1"},
        Case{"WINDOW_UPDATE by 0 on a stream",
             [](auto& p) { open(p, 1); p.send(FrameType::window_update, 0, 1, u32_text(0)); }, "RST 1 1"},
        Case{"WINDOW_UPDATE on an idle stream", [](auto& p) { p.send(FrameType::window_update, 0, 1, u32_text(1)); }, "GOAWAY 1"},
        Case{"WINDOW_UPDATE on a completed stream",
             [](auto& p) { complete(p); p.send(FrameType::window_update, 0, 1, u32_text(1)); }, ""},
        Case{"WINDOW_UPDATE overflow of the connection",
             [](auto& p) { p.send(FrameType::window_update, 0, 0, u32_text(kMaxWindow)); }, "GOAWAY 3"},
        Case{"WINDOW_UPDATE overflow of a stream",
             [](auto& p) { open(p, 1); p.send(FrameType::window_update, 0, 1, u32_text(kMaxWindow)); }, "RST 1 3"},
        Case{"SETTINGS overflow of a stream",
             [](auto& p) {
               open(p, 1);
               p.send(FrameType::window_update, 0, 1, u32_text(kMaxWindow - kDefaultWindow));
               p.send(FrameType::settings, 0, 0, setting(Setting::initial_window_size, kDefaultWindow + 1));
             },
             "GOAWAY 3"},
        Case{"the same increment on a stream that is gone",
             [](auto& p) {
               open(p, 1);
               p.send(FrameType::window_update, 0, 1, u32_text(kMaxWindow - kDefaultWindow));
               p.send(FrameType::rst_stream, 0, 1, u32_text(8));
               p.send(FrameType::settings, 0, 0, setting(Setting::initial_window_size, kDefaultWindow + 1));
             },
             ""},
        Case{"unknown frame", [](auto& p) { p.send(static_cast<FrameType>(0x16), 0xff, 7, "whatever"); }, ""},
        Case{"reserved bit of the stream id",
             [](auto& p) { p.send(FrameType::ping, 0, 0x80000000, "12345678"); }, ""}));

class ClientRuleTest : public ::testing::TestWithParam<Case> {};

// Stream 1 has sent a whole request and waits for its response.
TEST_P(ClientRuleTest, Verdict) {
  ScriptedPeer peer(Role::client);
  StreamLog& log = peer.engine.open();
  log.stream->send_headers(to_headers(grpc_request()), true);
  peer.read();
  GetParam().script(peer);
  EXPECT_EQ(peer.verdict(), GetParam().verdict) << peer.engine.connection.error();
  if (GetParam().verdict[0] != '\0') {
    ASSERT_TRUE(log.reset);
    EXPECT_FALSE(log.reset->unprocessed);
  }
}

const Fields kOk = {{":status", "200"}};

INSTANTIATE_TEST_SUITE_P(
    Frames, ClientRuleTest,
    ::testing::Values(
        Case{"a response",
             [](auto& p) {
               p.send_headers(1, kOk, false);
               p.send_data(1, "x", false);
               p.send_headers(1, {{"a", "b"}}, true);
             },
             ""},
        Case{"informational, then final",
             [](auto& p) {
               p.send_headers(1, {{":status", "103"}}, false);
               p.send_headers(1, kOk, true);
             },
             ""},
        Case{"informational with END_STREAM",
             [](auto& p) {
               p.send_headers(1, {{":status", "103"}}, true);
             },
             "RST 1 1"},
        Case{"101",
             [](auto& p) {
               p.send_headers(1, {{":status", "101"}}, false);
             },
             "RST 1 1"},
        Case{"DATA before the head", [](auto& p) { p.send_data(1, "x", false); }, "RST 1 1"},
        Case{"DATA after an informational head",
             [](auto& p) {
               p.send_headers(1, {{":status", "100"}}, false);
               p.send_data(1, "x", false);
             },
             "RST 1 1"},
        Case{"request fields in a response", [](auto& p) { p.send_headers(1, grpc_request(), false); }, "RST 1 1"},
        Case{"HEADERS on a stream that was not opened", [](auto& p) { p.send_headers(3, kOk, true); }, "GOAWAY 1"},
        Case{"HEADERS on an even stream", [](auto& p) { p.send_headers(2, kOk, true); }, "GOAWAY 1"},
        Case{"PUSH_PROMISE",
             [](auto& p) { p.send(FrameType::push_promise, kWhole, 1, u32_text(2) + p.block(grpc_request())); },
             "GOAWAY 1"},
        Case{"ENABLE_PUSH 1", [](auto& p) { p.send(FrameType::settings, 0, 0, setting(Setting::enable_push, 1)); },
             "GOAWAY 1"},
        Case{"304 with content-length",
             [](auto& p) {
               p.send_headers(1, {{":status", "304"}, {"content-length", "9"}}, true);
             },
             ""},
        Case{"304 with a body",
             [](auto& p) {
               p.send_headers(1, {{":status", "304"}}, false);
               p.send_data(1, "x", true);
             },
             "RST 1 1"},
        Case{"content-length without body",
             [](auto& p) {
               p.send_headers(1, {{":status", "200"}, {"content-length", "9"}}, true);
             },
             "RST 1 1"},
        Case{"too many fields",
             [](auto& p) {
               Fields f = kOk;
               for (int i = 0; i < 100; ++i) f.emplace_back("x", "y");
               p.send_headers(1, f, false);
             },
             "RST 1 11"}));

TEST(PrefaceTest, IsVerifiedToTheLastByte) {
  for (size_t at = 0; at < kPreface.size(); ++at) {
    ScriptedPeer peer(Role::server, Limits(), false);
    std::string bytes(kPreface);
    bytes[at] = '?';
    peer.send(bytes);
    EXPECT_EQ(peer.verdict(), "GOAWAY 1");
  }
}

TEST(PrefaceTest, SettingsComeFirst) {
  for (const auto& [type, flags] : std::vector<std::pair<FrameType, uint8_t>>{{FrameType::ping, 0},
                                                                              {FrameType::settings, kFlagAck},
                                                                              {FrameType::window_update, 0},
                                                                              {static_cast<FrameType>(99), 0}}) {
    ScriptedPeer server(Role::server, Limits(), false);
    server.send(kPreface);
    server.send(type, flags, 0, "");
    EXPECT_EQ(server.verdict(), "GOAWAY 1");
    ScriptedPeer client(Role::client, Limits(), false);
    client.send(type, flags, 0, "");
    EXPECT_EQ(client.verdict(), "GOAWAY 1");
  }
}

TEST(PrefaceTest, SaysOurLimits) {
  Limits limits;
  limits.max_concurrent_streams = 7;
  ScriptedPeer peer(Role::server, limits, false);
  const std::vector<Frame> frames = peer.read();
  ASSERT_EQ(frames.size(), 2u);
  ASSERT_TRUE(frames[0].is(FrameType::settings));
  std::map<uint16_t, uint32_t> settings;
  for (size_t at = 0; at < frames[0].payload.size(); at += kSettingSize) {
    const SettingValue s = read_setting(reinterpret_cast<const uint8_t*>(frames[0].payload.data()) + at);
    settings[s.id] = s.value;
  }
  EXPECT_EQ(settings, (std::map<uint16_t, uint32_t>{{1, 4096}, {3, 7}, {4, 1 << 20}, {5, 16384}, {6, 65536}}));
  EXPECT_TRUE(frames[1].is(FrameType::window_update));
  EXPECT_EQ(frames[1].u32(), (4u << 20) - 65535);
}

TEST(PingTest, IsAnsweredWithItsBytes) {
  ScriptedPeer peer(Role::server);
  peer.send(FrameType::ping, 0, 0, "abcdefgh");
  const std::vector<Frame> frames = peer.read();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].is(FrameType::ping) && frames[0].header.has(kFlagAck));
  EXPECT_EQ(frames[0].payload, "abcdefgh");
}

TEST(RequestTest, PlainConnectIsNotImplemented) {
  ScriptedPeer peer(Role::server);
  peer.send_headers(1, {{":method", "CONNECT"}, {":authority", "a:1"}}, false);
  const std::vector<Frame> frames = peer.read();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(peer.decode(frames[0]), (Fields{{":status", "501"}}));
  EXPECT_TRUE(frames[0].header.has(kFlagEndStream));
  EXPECT_TRUE(frames[1].is(FrameType::rst_stream));
  EXPECT_EQ(frames[1].u32(), 0u);
  EXPECT_TRUE(peer.engine.logs.empty());
}

TEST(ResponseTest, ToHeadHasNoBody) {
  ScriptedPeer peer(Role::client);
  StreamLog& log = peer.engine.open();
  log.stream->send_headers(to_headers({{":method", "HEAD"}, {":scheme", "http"}, {":path", "/"}}), true);
  peer.read();
  peer.send_headers(1, {{":status", "200"}, {"content-length", "100"}}, true);
  EXPECT_EQ(peer.verdict(), "");
  EXPECT_TRUE(log.ended);
}

// An id that the table of closed streams has long forgotten, on a connection that used all ids in order.
TEST(ClosedStreamTest, AForgottenStreamIsAStreamError) {
  ScriptedPeer peer(Role::server);
  for (uint32_t id = 1; id < 2 * 200; id += 2) cancel(peer, id);
  peer.send_headers(1, {{"grpc-status", "1"}}, true);
  EXPECT_EQ(peer.verdict(), "RST 1 5");
}

}  // namespace
}  // namespace weir::http2::testing
