// One scripted attack for each Limit: it acts, it is reported, memory stays bounded, and what is just below
// passes. Then what gRPC's libraries do, which must never meet a limit.
#include "http2/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "endpoint.h"

namespace weir::http2::testing {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using Hits = std::map<std::pair<Limit, LimitAction>, int>;

constexpr auto kDrain = LimitAction::drain;
constexpr auto kEnforce = LimitAction::enforce;
constexpr uint8_t kEnd = kFlagEndStream;
constexpr uint8_t kWhole = kFlagEndHeaders;
// No attack makes the engine hold more, if its output is taken.
constexpr size_t kMostHeld = 512 * 1024;

const Fields kOk = {{":status", "200"}};

StreamLog& call(ScriptedPeer& p) {
  StreamLog& log = p.engine.open();
  log.stream->send_headers(to_headers(grpc_request()), false);
  p.read();
  return log;
}
void open(ScriptedPeer& p, uint32_t id) { p.send_headers(id, grpc_request(), false); }
// A stream of which the engine has `size` bytes to send: a response's body, or a request's.
StreamLog& sender(ScriptedPeer& p, bool server, size_t size, bool end) {
  if (server) {
    open(p, 1);
    p.engine.logs.back()->stream->send_headers(to_headers(kOk), false);
  }
  StreamLog& log = server ? *p.engine.logs.back() : call(p);
  log.stream->send_data(slice_of(std::string(size, 'x')), end);
  p.read();
  return log;
}
std::string window_update(uint32_t id, uint32_t increment) {
  return frame(FrameType::window_update, 0, id, u32_text(increment));
}

Limits with(const std::function<void(Limits&)>& change) {
  Limits limits;
  change(limits);
  return limits;
}
Limits burst(Limit flood, uint32_t n) {
  return with([=](Limits& l) { l.floods[bucket_of(flood)].burst = n; });
}

struct Flood {
  const char* name;
  Role role;  // the engine's
  Limit limit;
  std::function<void(ScriptedPeer&)> prepare;
  // What is sent for the n-th token, n = 1, 2, ...
  std::function<std::string(ScriptedPeer&, uint32_t n)> round;
  Limits limits = {};
  uint32_t read_every = 100;  // rounds
};
void PrintTo(const Flood& f, std::ostream* out) { *out << f.name; }

class FloodTest : public ::testing::TestWithParam<Flood> {};

TEST_P(FloodTest, DrainsAtThreeQuartersThenEndsTheConnection) {
  const Flood& flood = GetParam();
  ScriptedPeer peer(flood.role, flood.limits);
  if (flood.prepare) flood.prepare(peer);
  peer.read();
  peer.engine.now += hours(1);  // what the beginning cost is forgotten
  Connection& engine = peer.engine.connection;
  const uint32_t tokens = flood.limits.floods[bucket_of(flood.limit)].burst;
  size_t held = 0;
  uint32_t n = 1;
  const auto send_up_to = [&](uint32_t last) {
    for (; n <= last; ++n) {
      peer.send(flood.round(peer, n));
      held = std::max(held, engine.held_bytes());
      if (n % flood.read_every == 0 && n <= tokens) peer.read();
    }
  };
  const auto hits = [&] {
    Hits all = peer.engine.limits_hit;
    if (flood.limit == Limit::refused_streams) all.erase({Limit::concurrent_streams, kEnforce});
    return all;
  };
  send_up_to((3 * tokens + 3) / 4 - 1);
  EXPECT_EQ(hits(), Hits()) << engine.error();
  EXPECT_TRUE(engine.usable());
  send_up_to(tokens);
  EXPECT_EQ(hits(), (Hits{{{flood.limit, kDrain}, 1}}));
  EXPECT_FALSE(engine.usable());
  EXPECT_STREQ(engine.error(), "");
  send_up_to(tokens + 1);
  EXPECT_EQ(hits(), (Hits{{{flood.limit, kDrain}, 1}, {{flood.limit, kEnforce}, 1}}));
  EXPECT_EQ(peer.verdict(), "GOAWAY 11");
  EXPECT_STRNE(engine.error(), "");
  EXPECT_EQ(engine.open_streams(), 0u);
  EXPECT_TRUE(engine.finished());
  EXPECT_LE(held, kMostHeld);
}

std::string ping(ScriptedPeer&, uint32_t) { return frame(FrameType::ping, 0, 0, "12345678"); }
std::string settings(ScriptedPeer&, uint32_t n) {
  return frame(FrameType::settings, 0, 0, setting(Setting::initial_window_size, n % 2));
}
std::string priority(ScriptedPeer&, uint32_t n) { return frame(FrameType::priority, 0, 2 * n + 1, u32_text(0) + "x"); }
std::string unknown(ScriptedPeer&, uint32_t) { return frame(static_cast<FrameType>(0xbe), 0xff, 7, "grease"); }
std::string goaway(ScriptedPeer&, uint32_t) { return frame(FrameType::goaway, 0, 0, u32_text(1) + u32_text(0)); }
std::string empty_data(ScriptedPeer&, uint32_t) { return frame(FrameType::data, 0, 1, ""); }
std::string padded_data(ScriptedPeer&, uint32_t) { return frame(FrameType::data, kFlagPadded, 1, {"\x01\0", 2}); }
std::string reset(ScriptedPeer&, uint32_t) { return frame(FrameType::rst_stream, 0, 1, u32_text(8)); }
std::string request(ScriptedPeer& p, uint32_t n, const Fields& more = {}) {
  Fields fields = grpc_request();
  fields.insert(fields.end(), more.begin(), more.end());
  return frame(FrameType::headers, kWhole, 2 * n - 1, p.block(fields));
}
std::string request_only(ScriptedPeer& p, uint32_t n) { return request(p, n); }
void open_1(ScriptedPeer& p) { open(p, 1); }
void call_1(ScriptedPeer& p) { call(p); }
void answered_call(ScriptedPeer& p) {
  call(p);
  p.send_headers(1, kOk, false);
}
void reset_by_us(ScriptedPeer& p) {
  open(p, 1);
  p.engine.logs.back()->release(http::kCancel);
}
void waiting_response(ScriptedPeer& p) {
  p.send(FrameType::window_update, 0, 0, u32_text(1 << 20));
  sender(p, true, 400000, false);
}
void waiting_request(ScriptedPeer& p) {
  p.send(FrameType::window_update, 0, 0, u32_text(1 << 20));
  sender(p, false, 400000, false);
}
void waiting_for_the_connection(ScriptedPeer& p) {
  open(p, 1);
  p.send(FrameType::window_update, 0, 1, u32_text(1 << 20));
  p.engine.logs.back()->stream->send_headers(to_headers(kOk), false);
  p.engine.logs.back()->stream->send_data(slice_of(std::string(400000, 'x')), false);
}
const Fields kFive = {{"content-length", "5"}};

INSTANTIATE_TEST_SUITE_P(
    Attacks, FloodTest,
    ::testing::Values(Flood{"PING", Role::server, Limit::ping_flood, {}, ping},
                      Flood{"PING from the endpoint", Role::client, Limit::ping_flood, {}, ping},
                      Flood{"PING ACK that nobody asked for",
                            Role::server,
                            Limit::ping_flood,
                            {},
                            [](auto&, uint32_t) { return frame(FrameType::ping, kFlagAck, 0, "12345678"); }},
                      Flood{"INITIAL_WINDOW_SIZE churn", Role::server, Limit::settings_flood, waiting_response,
                            settings},
                      Flood{"SETTINGS from the endpoint", Role::client, Limit::settings_flood, {}, settings},
                      Flood{"SETTINGS ACK that nobody asked for",
                            Role::server,
                            Limit::settings_flood,
                            {},
                            [](auto&, uint32_t) { return frame(FrameType::settings, kFlagAck, 0, ""); }},
                      Flood{"empty DATA", Role::server, Limit::empty_data_flood, open_1, empty_data},
                      Flood{"empty DATA from the endpoint", Role::client, Limit::empty_data_flood, answered_call,
                            empty_data},
                      Flood{"DATA of padding", Role::server, Limit::empty_data_flood, open_1, padded_data},
                      Flood{"PRIORITY", Role::server, Limit::priority_flood, {}, priority},
                      Flood{"PRIORITY from the endpoint", Role::client, Limit::priority_flood, {}, priority},
                      Flood{"unknown frames", Role::server, Limit::ignored_frame_flood, {}, unknown},
                      Flood{"unknown frames from the endpoint", Role::client, Limit::ignored_frame_flood, {}, unknown},
                      Flood{"HEADERS on a stream that we reset", Role::server, Limit::ignored_frame_flood, reset_by_us,
                            [](auto& p, uint32_t) {
                              return frame(FrameType::headers, kWhole, 1, p.block({{"a", "b"}}));
                            }},
                      Flood{"empty DATA on a stream that we reset", Role::server, Limit::ignored_frame_flood,
                            reset_by_us, empty_data},
                      Flood{"WINDOW_UPDATE",
                            Role::server,
                            Limit::window_update_flood,
                            {},
                            [](auto&, uint32_t) { return window_update(0, 1); }},
                      Flood{"WINDOW_UPDATE from the endpoint", Role::client, Limit::window_update_flood, call_1,
                            [](auto&, uint32_t) { return window_update(1, 1000); }},
                      Flood{"1-byte windows",
                            Role::server,
                            Limit::window_dribble,
                            waiting_response,
                            [](auto&, uint32_t) { return window_update(1, 1); },
                            {},
                            1},
                      Flood{"1-byte windows of the endpoint",
                            Role::client,
                            Limit::window_dribble,
                            waiting_request,
                            [](auto&, uint32_t) { return window_update(1, 1); },
                            {},
                            1},
                      Flood{"a connection window of 1 byte",
                            Role::server,
                            Limit::window_dribble,
                            waiting_for_the_connection,
                            [](auto&, uint32_t) { return window_update(0, 1); },
                            {},
                            1},
                      Flood{"Rapid Reset",
                            Role::server,
                            Limit::rapid_reset,
                            {},
                            [](auto& p, uint32_t n) {
                              return request(p, n) + frame(FrameType::rst_stream, 0, 2 * n - 1, u32_text(8));
                            }},
                      Flood{"RST_STREAM from the endpoint", Role::client, Limit::rapid_reset, call_1, reset},
                      Flood{"streams beyond the limit",
                            Role::server,
                            Limit::refused_streams,
                            {},
                            request_only,
                            with([](Limits& l) { l.max_concurrent_streams = 0; })},
                      Flood{"GOAWAY", Role::server, Limit::goaway_flood, {}, goaway},
                      Flood{"MadeYouReset: WINDOW_UPDATE by 0",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) { return request(p, n) + window_update(2 * n - 1, 0); }},
                      Flood{"MadeYouReset: window overflow",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) { return request(p, n) + window_update(2 * n - 1, kMaxWindow); }},
                      Flood{"MadeYouReset: body longer than content-length",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) {
                              return request(p, n, kFive) + frame(FrameType::data, 0, 2 * n - 1, "123456");
                            }},
                      Flood{"MadeYouReset: END_STREAM before content-length",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) {
                              return request(p, n, kFive) + frame(FrameType::data, kEnd, 2 * n - 1, "");
                            }},
                      Flood{"MadeYouReset: DATA after END_STREAM",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) {
                              return frame(FrameType::headers, kWhole | kEnd, 2 * n - 1, p.block(grpc_request())) +
                                     frame(FrameType::data, 0, 2 * n - 1, "x");
                            }},
                      Flood{"MadeYouReset: PRIORITY of 4 bytes",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) {
                              return request(p, n) + frame(FrameType::priority, 0, 2 * n - 1, "abcd");
                            }},
                      Flood{"malformed requests",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) { return request(p, n, {{"Upper", "case"}}); }},
                      Flood{"requests with connection-specific fields",
                            Role::server,
                            Limit::provoked_resets,
                            {},
                            [](auto& p, uint32_t n) {
                              return request(p, n, {{"connection", "close"}});
                            }},
                      Flood{
                          "CONNECT",
                          Role::server,
                          Limit::provoked_resets,
                          {},
                          [](auto& p, uint32_t n) {
                            return frame(FrameType::headers, kWhole, 2 * n - 1,
                                         p.block({{":method", "CONNECT"}, {":authority", "a"}}));
                          }},
                      Flood{"malformed responses", Role::client, Limit::provoked_resets,
                            [](auto& p) {
                              for (int i = 0; i < 41; ++i) call(p);
                            },
                            [](auto& p, uint32_t n) {
                              return frame(FrameType::headers, kWhole, 2 * n - 1, p.block({{":status", "x"}}));
                            },
                            burst(Limit::provoked_resets, 40)}));

struct Case {
  const char* name;
  Role role;
  Limit limit;
  const char* verdict;  // of `above`, as ScriptedPeer::verdict() writes it
  std::function<void(ScriptedPeer&)> below, above;
  Limits limits = {};
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class LimitCaseTest : public ::testing::TestWithParam<Case> {};

TEST_P(LimitCaseTest, ActsAboveAndNotBelow) {
  const Case& c = GetParam();
  {
    ScriptedPeer peer(c.role, c.limits);
    c.below(peer);
    EXPECT_EQ(peer.engine.limits_hit, Hits());
    EXPECT_STREQ(peer.engine.connection.error(), "");
    EXPECT_LE(peer.engine.connection.held_bytes(), kMostHeld);
  }
  ScriptedPeer peer(c.role, c.limits);
  c.above(peer);
  EXPECT_EQ(peer.engine.limits_hit, (Hits{{{c.limit, kEnforce}, 1}}));
  EXPECT_LE(peer.engine.connection.held_bytes(), kMostHeld);
  EXPECT_EQ(peer.verdict(), c.verdict) << peer.engine.connection.error();
}

void tick_after(ScriptedPeer& p, base::Duration time) {
  p.engine.now += time;
  p.engine.connection.tick(p.engine.now);
}
void send_settings(ScriptedPeer& p, int n) {
  std::string entries;
  for (int i = 0; i < n; ++i) entries += setting(Setting::initial_window_size, 65535);
  p.send(FrameType::settings, 0, 0, entries);
}
void send_block(ScriptedPeer& p, int continuations, size_t size) {
  p.send(FrameType::headers, 0, 1, p.block(grpc_request()));
  const std::string field = p.block({{"x", std::string(size, 'x')}});
  for (int i = 1; i < continuations; ++i) p.send(FrameType::continuation, 0, 1, i == 1 ? field : "");
  p.send(FrameType::continuation, kWhole, 1, "");
}
void send_big_block(ScriptedPeer& p, int continuations) {
  const std::string part(16384, '\0');  // no HPACK, but it is never decoded
  p.send(FrameType::headers, 0, 1, part);
  for (int i = 0; i < continuations; ++i) p.send(FrameType::continuation, 0, 1, part);
}
void send_pings(ScriptedPeer& p, int n) {
  for (int i = 0; i < n; ++i) p.send(FrameType::ping, 0, 0, "12345678");
}
Fields fields_of(size_t bytes, int count) {
  Fields fields = grpc_request();
  for (int i = 0; i < count; ++i) fields.emplace_back("x", std::string(bytes / static_cast<size_t>(count), 'x'));
  return fields;
}
void informational(ScriptedPeer& p, int n) {
  call(p);
  for (int i = 0; i < n; ++i) p.send_headers(1, {{":status", "103"}}, false);
}
// Ten minutes in which the peer adds to a window (of the connection, if `id` is 0) each second.
void widen(ScriptedPeer& p, uint32_t id, uint32_t a_second) {
  for (int i = 0; i < 600; ++i) {
    if (a_second > 0) p.send(window_update(id, a_second));
    if (i < 599) p.read();
    tick_after(p, seconds(1));
  }
}
void flush(ScriptedPeer& p, bool server, uint32_t a_second, bool end = true) {
  p.send(FrameType::settings, 0, 0, setting(Setting::initial_window_size, 0));
  sender(p, server, 40000, end);
  widen(p, 1, a_second);
}
void flush_behind_connection(ScriptedPeer& p, uint32_t a_second) {
  waiting_for_the_connection(p);
  p.engine.logs.back()->stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  widen(p, 0, a_second);
}
// A thousand answers of 17 bytes, of which `a_minute` bytes leave each minute.
void write_slowly(ScriptedPeer& p, size_t a_minute) {
  send_pings(p, 1000);
  for (int i = 0; i < 10; ++i) {
    std::array<iovec, 4> out;
    p.engine.connection.gather(out);
    p.engine.connection.written(a_minute);
    tick_after(p, minutes(1));
  }
}
INSTANTIATE_TEST_SUITE_P(
    Attacks, LimitCaseTest,
    ::testing::Values(Case{"huge SETTINGS", Role::server, Limit::settings_size, "GOAWAY 11",
                           [](auto& p) { send_settings(p, 32); }, [](auto& p) { send_settings(p, 33); }},
                      Case{"huge SETTINGS of the endpoint", Role::client, Limit::settings_size, "GOAWAY 11",
                           [](auto& p) { send_settings(p, 32); }, [](auto& p) { send_settings(p, 2730); }},
                      Case{"CONTINUATION flood, most of it empty", Role::server, Limit::continuation_flood, "GOAWAY 11",
                           [](auto& p) { send_block(p, 16, 10); }, [](auto& p) { send_block(p, 17, 10); }},
                      Case{"header block of 80 KiB", Role::server, Limit::header_block_size, "GOAWAY 11",
                           [](auto& p) { send_big_block(p, 3); }, [](auto& p) { send_big_block(p, 4); }},
                      Case{"header block that dribbles", Role::server, Limit::header_block_timeout, "GOAWAY 11",
                           [](auto& p) {
                             p.send(FrameType::headers, 0, 1, "");
                             tick_after(p, seconds(9));
                           },
                           [](auto& p) {
                             p.send(FrameType::headers, 0, 1, "");
                             for (int i = 0; i < 10; ++i) {
                               p.send(FrameType::continuation, 0, 1, "");
                               tick_after(p, seconds(1));
                             }
                           }},
                      Case{"frame that dribbles", Role::client, Limit::frame_timeout, "GOAWAY 11",
                           [](auto& p) {
                             p.send(std::string(3, '\0'));
                             tick_after(p, seconds(9));
                           },
                           [](auto& p) {
                             const std::string bytes = ping(p, 1);
                             for (size_t i = 0; i < 10; ++i) {
                               p.send(bytes.substr(i, 1));
                               tick_after(p, seconds(1));
                             }
                           }},
                      Case{"answers that are not read", Role::server, Limit::unwritten_output, "GOAWAY 11",
                           [](auto& p) { send_pings(p, 900); }, [](auto& p) { send_pings(p, 1000); },
                           with([](Limits& l) { l.max_unwritten_output = 16000; })},
                      Case{"a peer that hardly reads", Role::server, Limit::write_stall, "GOAWAY 11",
                           [](auto& p) { write_slowly(p, 1700); }, [](auto& p) { write_slowly(p, 17); }},
                      Case{"concurrency", Role::server, Limit::concurrent_streams, "RST 5 7",
                           [](auto& p) {
                             open(p, 1);
                             open(p, 3);
                           },
                           [](auto& p) {
                             open(p, 1);
                             open(p, 3);
                             open(p, 5);
                           },
                           with([](Limits& l) { l.max_concurrent_streams = 2; })},
                      Case{"request of 64 KiB", Role::server, Limit::header_list_size, "RST 1 0",
                           [](auto& p) { p.send_headers(1, fields_of(15000, 1), false); },
                           [](auto& p) { p.send_headers(1, fields_of(16200, 1), false); },
                           with([](Limits& l) { l.max_header_list_size = 16384; })},
                      Case{"cookie crumbs", Role::server, Limit::header_fields, "RST 1 0",
                           [](auto& p) { p.send_headers(1, fields_of(93, 93), false); },
                           [](auto& p) { p.send_headers(1, fields_of(94, 94), false); }},
                      Case{"HPACK bomb", Role::server, Limit::header_list_size, "RST 1 0",
                           [](auto& p) { p.send_headers(1, fields_of(3000, 1), false); },
                           [](auto& p) {
                             // 3 KiB that are put into the table once, then named by a byte each.
                             const std::string block = p.block(fields_of(3000, 1));
                             p.send(FrameType::headers, kWhole, 1, block + std::string(12000, '\xbe'));
                           }},
                      Case{"huge trailers of the endpoint", Role::client, Limit::header_list_size, "RST 1 11",
                           [](auto& p) {
                             answered_call(p);
                             p.send_headers(1, {{"x", std::string(900, 'x')}}, true);
                           },
                           [](auto& p) {
                             answered_call(p);
                             p.send_headers(1, {{"x", std::string(1000, 'x')}}, true);
                           },
                           with([](Limits& l) { l.max_header_list_size = 1000; })},
                      Case{"informational responses", Role::client, Limit::informational_responses, "RST 1 11",
                           [](auto& p) { informational(p, 16); }, [](auto& p) { informational(p, 17); }},
                      Case{"response that the windows hardly let out", Role::server, Limit::flush_stall, "RST 1 11",
                           [](auto& p) { flush(p, true, 60); }, [](auto& p) { flush(p, true, 1); }},
                      Case{"request that the windows hardly let out", Role::client, Limit::flush_stall, "RST 1 11",
                           [](auto& p) { flush(p, false, 60); }, [](auto& p) { flush(p, false, 0); }},
                      Case{"response behind a connection window that hardly opens", Role::server, Limit::flush_stall,
                           "RST 1 11", [](auto& p) { flush_behind_connection(p, 60); },
                           [](auto& p) { flush_behind_connection(p, 1); }}));

TEST(LimitTest, SettingsTimeout) {
  ScriptedPeer peer(Role::client, Limits(), false);
  tick_after(peer, seconds(10));
  EXPECT_EQ(peer.engine.limits_hit, (Hits{{{Limit::settings_timeout, kEnforce}, 1}}));
}

TEST(LimitTest, StreamsAfterTheLastGoawayAreCharged) {
  ScriptedPeer peer(Role::server, burst(Limit::refused_streams, 10));
  peer.engine.connection.drain();
  peer.send(FrameType::ping, kFlagAck, 0, peer.read().back().payload);
  for (uint32_t n = 1; n <= 10; ++n) peer.send(request(peer, n));
  EXPECT_EQ(peer.engine.limits_hit, Hits()) << "it is being drained already";
  peer.send(request(peer, 11));
  EXPECT_EQ(peer.engine.limits_hit, (Hits{{{Limit::refused_streams, kEnforce}, 1}}));
  EXPECT_TRUE(peer.engine.logs.empty());
}

TEST(LimitTest, AGoawayMustNotRaiseTheLastStream) {
  ScriptedPeer peer(Role::client);
  StreamLog& log = call(peer);
  for (const uint32_t last : {kMaxStreamId, 5u, 5u, 1u})
    peer.send(FrameType::goaway, 0, 0, u32_text(last) + u32_text(0));
  EXPECT_FALSE(log.reset);
  peer.send(FrameType::goaway, 0, 0, u32_text(3) + u32_text(0));
  EXPECT_EQ(peer.verdict(), "GOAWAY 1");
  EXPECT_TRUE(log.reset);
}

TEST(LimitTest, AGrpcClientIsToldThatItsHeadersAreTooLarge) {
  ScriptedPeer peer(Role::server);
  peer.send_headers(1, fields_of(94, 94), true);
  const auto frames = peer.read();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].header.has(kEnd));
  const Fields fields = peer.decode(frames[0]);
  EXPECT_THAT(fields, ::testing::IsSupersetOf(
                          Fields{{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "8"}}));
}

TEST(LimitTest, HeldBytesAreWhatWaitsForThePeer) {
  ScriptedPeer peer(Role::server);
  Connection& engine = peer.engine.connection;
  EXPECT_EQ(engine.held_bytes(), 0u);
  open(peer, 1);
  open(peer, 3);
  for (auto& log : peer.engine.logs) {
    log->stream->send_headers(to_headers(kOk), false);
    log->stream->send_data(slice_of(std::string(100000, 'x')), false);
  }
  EXPECT_GT(engine.held_bytes(), 200000u);
  EXPECT_LT(engine.held_bytes(), 200200u);
  peer.read();
  EXPECT_EQ(engine.held_bytes(), 200000u - kDefaultWindow);
  peer.send(window_update(0, 1000));
  peer.read();
  EXPECT_EQ(engine.held_bytes(), 199000u - kDefaultWindow);
  peer.send(reset(peer, 1));
  peer.engine.logs[1]->release(http::kCancel);
  peer.read();
  EXPECT_EQ(engine.held_bytes(), 0u);
}

TEST(LimitTest, NamesAreDistinct) {
  EXPECT_EQ(std::set<std::string_view>(kLimitNames.begin(), kLimitNames.end()).size(), kLimits);
}

// grpc-go answers each burst of DATA by a PING to estimate the bandwidth, and each message may bring two
// WINDOW_UPDATEs.
TEST(WellBehavedTest, ControlFramesThatFollowOurDataAreFree) {
  for (const bool server : {true, false}) {
    ScriptedPeer peer(server ? Role::server : Role::client);
    StreamLog& log = sender(peer, server, 5, false);
    for (int i = 0; i < 50000; ++i) {
      log.stream->send_data(slice_of("hello"), false);
      peer.send(ping(peer, 1) + window_update(0, 5) + window_update(1, 5));
      if (i % 100 == 0) peer.read();
    }
    EXPECT_EQ(peer.engine.limits_hit, Hits());
  }
}

// A thousand calls with a deadline of one second, again and again, and none is answered.
TEST(WellBehavedTest, DeadlineStormsAreNoRapidReset) {
  ScriptedPeer peer(Role::server);
  for (uint32_t n = 1; n <= 60 * 1000; ++n) {
    peer.send(request(peer, n));
    if (n % 1000 != 0) continue;
    peer.engine.now += seconds(1);
    for (uint32_t id = 2 * n - 1999; id <= 2 * n - 1; id += 2) peer.send(FrameType::rst_stream, 0, id, u32_text(8));
    peer.read();
  }
  EXPECT_EQ(peer.engine.limits_hit, Hits());
  EXPECT_EQ(peer.engine.connection.counters().streams_reset_by_peer, 60000u);
}

// Hedging: of two calls the slower is cancelled.
TEST(WellBehavedTest, AnAnswerPaysForACancelledStream) {
  ScriptedPeer peer(Role::server);
  for (uint32_t n = 1; n <= 40000; n += 2) {
    peer.send(request(peer, n));
    peer.send(request(peer, n + 1));
    peer.send(FrameType::rst_stream, 0, 2 * n + 1, u32_text(8));
    StreamLog& answered = *peer.engine.logs[peer.engine.logs.size() - 2];
    answered.stream->send_headers(to_headers(kOk), true);
    answered.release();
    if (n % 99 == 0) peer.read();
  }
  EXPECT_EQ(peer.engine.limits_hit, Hits());
}

// After the GOAWAY it can still end all that it has open without losing what is under way.
TEST(WellBehavedTest, ADrainedClientMayCancelAllItsStreams) {
  ScriptedPeer peer(Role::server);
  uint32_t n = 0;
  while (++n <= 900) peer.send(request(peer, n));
  for (; peer.engine.limits_hit.empty(); ++n) {
    peer.send(request(peer, n) + frame(FrameType::rst_stream, 0, 2 * n - 1, u32_text(8)));
    if (n % 100 == 0) peer.read();
  }
  for (uint32_t id = 1; id < 2 * 900; id += 2) peer.send(FrameType::rst_stream, 0, id, u32_text(8));
  EXPECT_EQ(peer.engine.limits_hit, (Hits{{{Limit::rapid_reset, kDrain}, 1}}));
  EXPECT_EQ(peer.engine.connection.open_streams(), 0u);
}

// A gRPC application may pause a stream for as long as it likes.
TEST(WellBehavedTest, AReaderMayPauseAStreamThatGoesOn) {
  for (const uint32_t a_second : {0, 1}) {
    ScriptedPeer peer(Role::server);
    flush(peer, true, a_second, false);
    for (int i = 0; i < 100; ++i) tick_after(peer, hours(1));
    EXPECT_EQ(peer.engine.limits_hit, Hits());
    EXPECT_EQ(peer.engine.connection.open_streams(), 1u);
  }
}

}  // namespace
}  // namespace weir::http2::testing
