// How streams and connections begin and end: release, reset, GOAWAY, drain, deadlines,
// limits, and users who do all that from inside an event.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "endpoint.h"

namespace weir::http2::testing {
namespace {

using std::chrono::seconds;

const Fields kOk = {{":status", "200"}};

StreamLog& request(ScriptedPeer& peer, uint32_t id, bool end_stream = true) {
  peer.send_headers(id, grpc_request(), end_stream);
  return *peer.engine.logs.back();
}

StreamLog& call(ScriptedPeer& peer, bool end_stream = true) {
  StreamLog& log = peer.engine.open();
  log.stream->send_headers(to_headers(grpc_request()), end_stream);
  return log;
}

TEST(ReleaseTest, OfACompleteStreamSendsNothing) {
  ScriptedPeer peer(Role::server);
  StreamLog& log = request(peer, 1);
  log.stream->send_headers(to_headers(kOk), true);
  peer.read();
  EXPECT_EQ(peer.engine.connection.open_streams(), 1u);
  log.release(http::kCancel);
  EXPECT_EQ(peer.verdict(), "");
  EXPECT_EQ(peer.engine.connection.open_streams(), 0u);
}

TEST(ReleaseTest, AfterTheResponseButNotTheRequestIsNoError) {
  ScriptedPeer peer(Role::server);
  StreamLog& log = request(peer, 1, false);
  log.stream->send_headers(to_headers(kOk), true);
  log.release(http::kCancel);
  EXPECT_EQ(peer.verdict(), "RST 1 0");
}

TEST(ReleaseTest, OfAnUnfinishedStreamResetsIt) {
  ScriptedPeer server(Role::server);
  request(server, 1).release(http::kInternalError);
  EXPECT_EQ(server.verdict(), "RST 1 2");
  ScriptedPeer client(Role::client);
  StreamLog& log = call(client, false);
  client.read();
  client.send_headers(1, kOk, true);
  log.release(http::kCancel);
  EXPECT_EQ(client.verdict(), "RST 1 8");
}

TEST(ReleaseTest, OfAnUnsentStreamSendsNothingAndUsesNoId) {
  ScriptedPeer peer(Role::client);
  peer.read();
  StreamLog& log = peer.engine.open();
  EXPECT_EQ(peer.engine.connection.open_streams(), 1u);
  log.release(http::kCancel);
  EXPECT_EQ(peer.engine.connection.open_streams(), 0u);
  EXPECT_FALSE(peer.engine.connection.wants_write());
  call(peer);
  EXPECT_EQ(peer.read().at(0).header.stream_id, 1u);
}

TEST(ReleaseTest, IdsFollowTheOrderOfSending) {
  ScriptedPeer peer(Role::client);
  peer.read();
  StreamLog& first = peer.engine.open();
  StreamLog& second = peer.engine.open();
  second.stream->send_headers(to_headers(grpc_request()), true);
  first.stream->send_headers(to_headers(grpc_request()), true);
  peer.send_headers(1, kOk, true);
  EXPECT_TRUE(second.ended);
  EXPECT_FALSE(first.ended);
}

TEST(ResetTest, RefusedStreamIsUnprocessed) {
  ScriptedPeer peer(Role::client);
  StreamLog& refused = call(peer);
  StreamLog& cancelled = call(peer);
  peer.read();
  peer.send(FrameType::rst_stream, 0, 1, u32_text(http::kRefusedStream));
  peer.send(FrameType::rst_stream, 0, 3, u32_text(http::kCancel));
  ASSERT_TRUE(refused.reset && cancelled.reset);
  EXPECT_TRUE(refused.reset->unprocessed);
  EXPECT_EQ(refused.reset->origin, http::Reset::Origin::peer);
  EXPECT_FALSE(cancelled.reset->unprocessed);
  EXPECT_EQ(cancelled.reset->error_code, http::kCancel);
  EXPECT_EQ(peer.engine.connection.counters().streams_reset_by_peer, 2u);
  EXPECT_EQ(peer.engine.connection.open_streams(), 0u);
}

TEST(ConcurrencyTest, TheServerRefusesBeyondItsLimitAndKeepsItsHpackInStep) {
  Limits limits;
  limits.max_concurrent_streams = 2;
  ScriptedPeer peer(Role::server, limits);
  request(peer, 1);
  request(peer, 3);
  Fields other = grpc_request();
  other.emplace_back("x-new", "indexed by the refused request");
  peer.send_headers(5, other, true);
  EXPECT_EQ(peer.verdict(), "RST 5 7");
  EXPECT_EQ(peer.engine.connection.counters().streams_refused, 1u);
  peer.engine.logs[0]->release();
  peer.send_headers(7, other, true);
  EXPECT_EQ(peer.engine.logs.back()->heads.at(0), other);
}

TEST(ConcurrencyTest, TheClientKeepsToThePeersLimit) {
  ScriptedPeer peer(Role::client);
  peer.send(FrameType::settings, 0, 0, setting(Setting::max_concurrent_streams, 1));
  EXPECT_EQ(peer.engine.connection.peer_max_concurrent_streams(), 1u);
  StreamLog& log = call(peer);
  EXPECT_FALSE(peer.engine.connection.can_open());
  EXPECT_TRUE(peer.engine.connection.usable());
  EXPECT_EQ(peer.engine.open().stream, nullptr);
  const int before = peer.engine.capacity_announcements;
  log.release(http::kCancel);
  EXPECT_EQ(peer.engine.capacity_announcements, before + 1);
  EXPECT_TRUE(peer.engine.connection.can_open());
  call(peer);
  peer.send(FrameType::settings, 0, 0, setting(Setting::max_concurrent_streams, 5));
  EXPECT_EQ(peer.engine.capacity_announcements, before + 2);
}

TEST(GoawayTest, ResetsWhatThePeerWillNotProcess) {
  ScriptedPeer peer(Role::client);
  StreamLog& processed = call(peer);
  StreamLog& above = call(peer);
  StreamLog& unsent = peer.engine.open();
  peer.read();
  // A callback that releases another stream which is about to be told.
  StreamLog& victim = call(peer);
  struct Releaser : StreamLog {
    StreamLog* other = nullptr;
    void on_reset(const http::Reset& why) override {
      StreamLog::on_reset(why);
      if (other->stream) other->release();
    }
  } releaser;
  releaser.stream = peer.engine.connection.open(releaser);
  releaser.other = &victim;
  peer.send(FrameType::goaway, 0, 0, u32_text(1) + u32_text(0) + "bye");
  EXPECT_FALSE(processed.reset);
  ASSERT_TRUE(above.reset && unsent.reset && releaser.reset);
  EXPECT_TRUE(above.reset->unprocessed && unsent.reset->unprocessed && releaser.reset->unprocessed);
  EXPECT_EQ(above.reset->origin, http::Reset::Origin::peer);
  EXPECT_FALSE(peer.engine.connection.usable());
  EXPECT_EQ(peer.engine.open().stream, nullptr);
  EXPECT_GT(peer.engine.capacity_announcements, 0);
  EXPECT_FALSE(peer.engine.connection.finished());
  peer.read();
  peer.send_headers(1, kOk, true);
  processed.release();
  EXPECT_TRUE(peer.engine.connection.finished());
}

TEST(GoawayTest, TheLastStreamIdMayComeDown) {
  ScriptedPeer peer(Role::client);
  StreamLog& one = call(peer);
  StreamLog& two = call(peer);
  peer.read();
  peer.send(FrameType::goaway, 0, 0, u32_text(kMaxStreamId) + u32_text(0));
  EXPECT_FALSE(one.reset || two.reset);
  peer.send(FrameType::goaway, 0, 0, u32_text(1) + u32_text(0));
  EXPECT_FALSE(one.reset);
  ASSERT_TRUE(two.reset);
  EXPECT_TRUE(two.reset->unprocessed);
}

TEST(DrainTest, OfAServerTakesARoundTrip) {
  ScriptedPeer peer(Role::server);
  StreamLog& before = request(peer, 1);
  peer.engine.connection.drain();
  peer.engine.connection.drain();
  auto frames = peer.read();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_TRUE(frames[0].is(FrameType::goaway) && frames[0].u32() == kMaxStreamId && frames[0].u32(4) == 0);
  ASSERT_TRUE(frames[1].is(FrameType::ping));
  // On its way when the peer read the first GOAWAY.
  StreamLog& racing = request(peer, 3);
  peer.send(FrameType::ping, kFlagAck, 0, frames[1].payload);
  frames = peer.read();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].is(FrameType::goaway) && frames[0].u32() == 3 && frames[0].u32(4) == 0);
  const size_t streams = peer.engine.logs.size();
  peer.send_headers(5, grpc_request(), false);
  peer.send_data(5, "ignored", true);
  EXPECT_EQ(peer.engine.logs.size(), streams);
  EXPECT_EQ(peer.verdict(), "");
  EXPECT_FALSE(peer.engine.connection.finished());
  for (StreamLog* log : {&before, &racing}) {
    log->stream->send_headers(to_headers(kOk), true);
    log->release();
  }
  EXPECT_FALSE(peer.engine.connection.finished()) << "the responses are not written yet";
  peer.read();
  EXPECT_TRUE(peer.engine.connection.finished());
}

TEST(DrainTest, AnotherPingDoesNotCountAndADeafPeerDoesNotHoldItUp) {
  ScriptedPeer peer(Role::server);
  peer.engine.connection.drain();
  peer.read();
  peer.send(FrameType::ping, kFlagAck, 0, "12345678");
  EXPECT_EQ(peer.verdict(), "");
  peer.engine.connection.tick(base::Instant() + seconds(9));
  EXPECT_FALSE(peer.engine.connection.finished());
  peer.engine.connection.tick(base::Instant() + seconds(10));
  EXPECT_EQ(peer.verdict(), "GOAWAY 0");
  EXPECT_TRUE(peer.engine.connection.finished());
}

TEST(DrainTest, OfAClientOnlyStopsOpening) {
  ScriptedPeer peer(Role::client);
  StreamLog& log = call(peer);
  StreamLog& unsent = peer.engine.open();
  peer.read();
  peer.engine.connection.drain();
  EXPECT_FALSE(peer.engine.connection.usable());
  EXPECT_EQ(peer.verdict(), "GOAWAY 0");
  unsent.stream->send_headers(to_headers(grpc_request()), true);
  EXPECT_EQ(peer.read().size(), 1u);
  peer.send_headers(1, kOk, true);
  peer.send_headers(3, kOk, true);
  EXPECT_TRUE(log.ended && unsent.ended);
  log.release();
  unsent.release();
  EXPECT_TRUE(peer.engine.connection.finished());
}

TEST(AbortTest, TellsThePeerAndEveryStream) {
  ScriptedPeer peer(Role::server);
  StreamLog& log = request(peer, 1);
  peer.engine.connection.abort(static_cast<uint32_t>(ErrorCode::enhance_your_calm));
  ASSERT_TRUE(log.reset);
  EXPECT_EQ(log.reset->origin, http::Reset::Origin::connection);
  EXPECT_EQ(log.reset->error_code, 11u);
  EXPECT_FALSE(peer.engine.connection.finished());
  EXPECT_EQ(peer.verdict(), "GOAWAY 11");
  EXPECT_TRUE(peer.engine.connection.finished());
  EXPECT_STREQ(peer.engine.connection.error(), "");
}

TEST(ClosedTest, KnowsWhatCanNeverHaveLeft) {
  Endpoint client(Role::client);
  StreamLog& sent = client.open();
  sent.stream->send_headers(to_headers(grpc_request()), true);
  client.output();
  StreamLog& framed = client.open();
  framed.stream->send_headers(to_headers(grpc_request()), true);
  StreamLog& unsent = client.open();
  client.connection.closed(2);
  ASSERT_TRUE(sent.reset && framed.reset && unsent.reset);
  EXPECT_FALSE(sent.reset->unprocessed);
  EXPECT_TRUE(framed.reset->unprocessed);
  EXPECT_TRUE(unsent.reset->unprocessed);
  EXPECT_EQ(sent.reset->error_code, 2u);
  EXPECT_EQ(sent.reset->origin, http::Reset::Origin::connection);
  EXPECT_TRUE(client.connection.finished());
  EXPECT_FALSE(client.connection.wants_write());
  std::array<iovec, 4> out;
  EXPECT_EQ(client.connection.gather(out), 0u);
}

TEST(ClosedTest, BytesOfAWriteInFlightStayWhereTheyAre) {
  Endpoint client(Role::client);
  client.open().stream->send_headers(to_headers(grpc_request()), false);
  StreamLog& log = *client.logs.back();
  log.stream->send_data(slice_of(std::string(30000, 'x')), true);
  std::array<iovec, 64> out;
  const size_t n = client.connection.gather(out);
  const auto joined = [&] {
    std::string bytes;
    for (size_t i = 0; i < n; ++i) bytes.append(static_cast<const char*>(out[i].iov_base), out[i].iov_len);
    return bytes;
  };
  const std::string before = joined();
  for (int i = 0; i < 500; ++i) client.open().stream->send_headers(to_headers(grpc_request()), true);
  EXPECT_TRUE(joined() == before);
  client.connection.closed();
  EXPECT_TRUE(joined() == before);
}

TEST(DeadlineTest, ForSettingsAndTheirAck) {
  {
    ScriptedPeer peer(Role::server, Limits(), false);
    peer.send(kPreface.substr(0, 10));
    peer.engine.connection.tick(base::Instant() + seconds(9));
    EXPECT_EQ(peer.verdict(), "");
    peer.engine.connection.tick(base::Instant() + seconds(10));
    EXPECT_EQ(peer.verdict(), "GOAWAY 4");
  }
  ScriptedPeer peer(Role::client, Limits(), false);
  peer.engine.now += seconds(9);
  peer.send(FrameType::settings, 0, 0, "");
  peer.read();
  EXPECT_TRUE(peer.engine.connection.settings_received());
  peer.engine.connection.tick(base::Instant() + seconds(18));
  EXPECT_EQ(peer.verdict(), "");
  peer.engine.connection.tick(base::Instant() + seconds(19));
  EXPECT_EQ(peer.verdict(), "GOAWAY 4");
}

TEST(DeadlineTest, ForAHeaderBlockThatDribbles) {
  ScriptedPeer peer(Role::server);
  peer.send(FrameType::headers, 0, 1, "");
  for (int i = 1; i < 10; ++i) {
    peer.engine.now += seconds(1);
    peer.send(FrameType::continuation, 0, 1, "");
    peer.engine.connection.tick(peer.engine.now);
  }
  EXPECT_EQ(peer.verdict(), "");
  peer.engine.connection.tick(base::Instant() + seconds(10));
  EXPECT_EQ(peer.verdict(), "GOAWAY 11");
}

TEST(DeadlineTest, ForAFrameThatDribblesButNotForABusyConnection) {
  ScriptedPeer peer(Role::server);
  const std::string ping = frame(FrameType::ping, 0, 0, "12345678");
  peer.send(ping.substr(0, 3));
  for (int i = 0; i < 30; ++i) {
    // Always a part of some frame left over, never of the same one.
    peer.engine.now += seconds(9);
    peer.send(ping.substr(3) + ping.substr(0, 3));
    peer.engine.connection.tick(peer.engine.now);
  }
  EXPECT_EQ(peer.verdict(), "");
  for (size_t at = 3; at < ping.size() - 1; ++at) {
    peer.engine.now += seconds(2);
    peer.send(ping.substr(at, 1));
    peer.engine.connection.tick(peer.engine.now);
  }
  EXPECT_EQ(peer.verdict(), "GOAWAY 11");
}

TEST(LimitTest, OversizedRequestsAreAnswered431) {
  Limits limits;
  limits.max_header_list_size = 1000;
  limits.max_header_fields = 20;
  ScriptedPeer peer(Role::server, limits);
  Fields plain = grpc_request();
  std::erase_if(plain, [](const auto& field) { return field.first == "content-type"; });
  Fields big = plain;
  big.emplace_back("x-big", std::string(2000, 'x'));
  Fields many = plain;
  for (int i = 0; i < 20; ++i) many.emplace_back("x", "y");
  uint32_t id = 1;
  for (const Fields& fields : {big, many}) {
    peer.send_headers(id, fields, false);
    const auto frames = peer.read();
    ASSERT_EQ(frames.size(), 2u);
    EXPECT_EQ(peer.decode(frames[0]), (Fields{{":status", "431"}}));
    EXPECT_TRUE(frames[0].header.has(kFlagEndStream));
    EXPECT_TRUE(frames[1].is(FrameType::rst_stream) && frames[1].u32() == 0);
    // What was on its way is ignored.
    peer.send_data(id, "body", true);
    EXPECT_EQ(peer.verdict(), "");
    id += 2;
  }
  EXPECT_TRUE(peer.engine.logs.empty());
  EXPECT_EQ(request(peer, id).heads.at(0), grpc_request());
}

TEST(LimitTest, OversizedResponsesAndTrailersResetTheStream) {
  Limits limits;
  limits.max_header_list_size = 1000;
  ScriptedPeer peer(Role::client, limits);
  StreamLog& head = call(peer);
  StreamLog& trailers = call(peer);
  peer.read();
  Fields big = kOk;
  big.emplace_back("x-big", std::string(2000, 'x'));
  peer.send_headers(1, big, true);
  EXPECT_EQ(peer.verdict(), "RST 1 11");
  peer.send_headers(3, kOk, false);
  peer.send_headers(3, {{"x-big", std::string(2000, 'x')}}, true);
  EXPECT_EQ(peer.verdict(), "RST 3 11");
  EXPECT_EQ(head.reset->origin, http::Reset::Origin::local);
  EXPECT_EQ(trailers.reset->origin, http::Reset::Origin::local);
}

TEST(LimitTest, ContinuationFloods) {
  {
    ScriptedPeer peer(Role::server);
    peer.send(FrameType::headers, 0, 1, "");
    for (int i = 0; i < 17; ++i) peer.send(FrameType::continuation, 0, 1, "");
    EXPECT_EQ(peer.verdict(), "GOAWAY 11");
  }
  ScriptedPeer peer(Role::server);
  peer.send(FrameType::headers, 0, 1, std::string(16384, '\0'));
  for (int i = 0; i < 4; ++i) peer.send(FrameType::continuation, 0, 1, std::string(16384, '\0'));
  EXPECT_EQ(peer.verdict(), "GOAWAY 11");
}

TEST(LimitTest, APeerThatAsksButDoesNotRead) {
  Limits limits;
  limits.max_unwritten_output = 100000;
  limits.floods[bucket_of(Limit::ping_flood)].burst = 10000;
  ScriptedPeer peer(Role::server, limits);
  std::string pings;
  for (int i = 0; i < 1000; ++i) pings += frame(FrameType::ping, 0, 0, "12345678");
  for (int i = 0; i < 5; ++i) peer.send(pings);
  EXPECT_STREQ(peer.engine.connection.error(), "");
  peer.send(pings);
  EXPECT_STRNE(peer.engine.connection.error(), "");
  EXPECT_EQ(peer.verdict(), "GOAWAY 11");
}

TEST(LimitTest, HeaderBlocksLargerThanAFrameAreSplit) {
  ScriptedPeer peer(Role::server);
  StreamLog& log = request(peer, 1);
  Fields fields = kOk;
  for (int i = 0; i < 10; ++i)
    fields.emplace_back("x-" + std::to_string(i), std::string(5000, static_cast<char>('!' + i)));
  log.stream->send_headers(to_headers(fields), false);
  std::string block;
  const auto frames = peer.read();
  ASSERT_GE(frames.size(), 3u);
  for (size_t i = 0; i < frames.size(); ++i) {
    EXPECT_TRUE(frames[i].is(i == 0 ? FrameType::headers : FrameType::continuation));
    EXPECT_EQ(frames[i].header.has(kFlagEndHeaders), i == frames.size() - 1);
    EXPECT_LE(frames[i].payload.size(), 16384u);
    block += frames[i].payload;
  }
  Frame whole = frames[0];
  whole.payload = block;
  EXPECT_EQ(peer.decode(whole), fields);
}

TEST(HpackTest, TheEncoderObeysThePeersTableSize) {
  ScriptedPeer peer(Role::server);
  peer.send(FrameType::settings, 0, 0, setting(Setting::header_table_size, 0));
  peer.read();
  for (uint32_t id = 1; id < 9; id += 2) {
    StreamLog& log = request(peer, id);
    log.stream->send_headers(to_headers({{":status", "200"}, {"x-a", "b"}}), true);
    log.release();
    const auto frames = peer.read();
    ASSERT_EQ(frames.size(), 1u);
    EXPECT_EQ(peer.decode(frames[0]), (Fields{{":status", "200"}, {"x-a", "b"}}));
    // Neither indexed nor added: the name is spelt out every time.
    EXPECT_GE(frames[0].payload.size(), 6u);
  }
}

TEST(HpackTest, WhatVariesOrIsSensitiveIsNeverIndexed) {
  HpackEncoder encoder(4096);
  http::Headers headers;
  headers.add("grpc-timeout", "1S");
  headers.add("traceparent", "00-1");
  headers.add("x-secret", "s", true);
  headers.add("x-plain", "p");
  std::vector<uint8_t> block(encoder.prepare(headers));
  block.resize(encoder.encode(block.data(), block.size()));
  HpackDecoder decoder(4096);
  http::Headers decoded;
  ASSERT_EQ(decoder.decode(block, HeaderListLimits{1000, 10}, decoded), HpackDecoder::Outcome::ok);
  ASSERT_EQ(decoded.size(), 4u);
  EXPECT_TRUE(decoded[0].sensitive && decoded[1].sensitive && decoded[2].sensitive);
  EXPECT_FALSE(decoded[3].sensitive);
}

// Users who act on everything from inside any event.
TEST(ReentrancyTest, AnyEventMayReleaseAnyStream) {
  for (int which = 0; which < 3; ++which) {
    ScriptedPeer peer(Role::server);
    peer.engine.on_event = [&](StreamLog& log) {
      if (log.stream && which == 0) log.release(http::kCancel);
      if (which == 1) {
        for (auto& other : peer.engine.logs) {
          if (other->stream) other->release(http::kCancel);
        }
      }
      if (which == 2) peer.engine.connection.abort(http::kInternalError);
    };
    std::string bytes;
    for (uint32_t id = 1; id < 40; id += 2) {
      bytes += frame(FrameType::headers, kFlagEndHeaders, id, peer.block(grpc_request()));
      bytes += frame(FrameType::data, 0, id, "body");
      bytes += frame(FrameType::headers, kFlagEndHeaders | kFlagEndStream, id, peer.block({{"a", "b"}}));
    }
    peer.send(bytes);
    EXPECT_EQ(peer.engine.connection.open_streams(), 0u);
    EXPECT_EQ(peer.engine.logs.size(), which == 2 ? 1u : 20u);
    EXPECT_EQ(*peer.engine.connection.error(), '\0');
  }
}

TEST(ReentrancyTest, AbortInsideOnStream) {
  class Aborting : public Endpoint {
   public:
    using Endpoint::Endpoint;
    http::StreamEvents* on_stream(http::Stream& stream) override {
      http::StreamEvents* events = Endpoint::on_stream(stream);
      connection.abort(http::kInternalError);
      return events;
    }
  } server(Role::server);
  Endpoint client(Role::client);
  client.open().stream->send_headers(to_headers(grpc_request()), true);
  exchange(client, server);
  ASSERT_EQ(server.logs.size(), 1u);
  EXPECT_TRUE(server.logs[0]->reset);
  EXPECT_TRUE(server.logs[0]->heads.empty());
  EXPECT_TRUE(client.logs[0]->reset == std::nullopt) << "stream 1 may have been processed: the transport's end decides";
  EXPECT_FALSE(client.connection.usable());
}

TEST(ReentrancyTest, ReleaseInsideOnStreamIsTheLastOfIt) {
  for (const bool abort_too : {false, true}) {
    class Refusing : public Endpoint {
     public:
      explicit Refusing(bool also) : Endpoint(Role::server), abort_too_(also) {}
      http::StreamEvents* on_stream(http::Stream& stream) override {
        http::StreamEvents* events = Endpoint::on_stream(stream);
        if (abort_too_) connection.abort(http::kInternalError);
        logs.back()->release(http::kRefusedStream);
        return events;
      }

     private:
      bool abort_too_;
    } server(abort_too);
    Endpoint client(Role::client);
    client.open().stream->send_headers(to_headers(grpc_request()), true);
    exchange(client, server);
    EXPECT_FALSE(server.logs.at(0)->reset);
    EXPECT_TRUE(server.logs.at(0)->heads.empty());
    EXPECT_EQ(server.connection.open_streams(), 0u);
    EXPECT_EQ(client.logs[0]->reset.has_value(), !abort_too);
  }
}

// The pointer is good until on_reset() returns, so a stream that is opened meanwhile must be another object.
TEST(ReentrancyTest, OnResetMayOpenAndThenReleaseTheOldStream) {
  ScriptedPeer peer(Role::client);
  struct Retrying : StreamLog {
    Endpoint* endpoint = nullptr;
    StreamLog* again = nullptr;
    void on_reset(const http::Reset& why) override {
      http::Stream* old = stream;
      StreamLog::on_reset(why);
      again = &endpoint->open();
      old->release(http::kCancel);
    }
  } call;
  call.endpoint = &peer.engine;
  call.stream = peer.engine.connection.open(call);
  call.stream->send_headers(to_headers(grpc_request()), true);
  peer.read();
  peer.send(FrameType::rst_stream, 0, 1, u32_text(http::kRefusedStream));
  ASSERT_TRUE(call.again);
  EXPECT_EQ(peer.engine.connection.open_streams(), 1u);
  call.again->stream->send_headers(to_headers(grpc_request()), true);
  const auto frames = peer.read();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].header.stream_id, 3u);
}

TEST(ReentrancyTest, OnSentMayReleaseAndOpen) {
  Endpoint client(Role::client);
  Endpoint server(Role::server);
  server.consume_at_once = true;
  int opened = 0;
  std::function<void(StreamLog&)> more = [&](StreamLog& log) {
    if (!log.stream || !log.stream->all_sent()) return;
    log.release(http::kCancel);
    if (++opened > 20) return;
    StreamLog& next = client.open();
    next.after = more;
    next.stream->send_headers(to_headers(grpc_request()), false);
    next.stream->send_data(slice_of(std::string(300000, 'x')), false);
  };
  StreamLog& first = client.open();
  first.after = more;
  first.stream->send_headers(to_headers(grpc_request()), false);
  first.stream->send_data(slice_of(std::string(300000, 'x')), false);
  exchange(client, server);
  EXPECT_EQ(opened, 21);
  EXPECT_EQ(client.connection.open_streams(), 0u);
  EXPECT_EQ(server.connection.open_streams(), 0u);
}

TEST(OutputTest, IsAnnouncedOnceUntilGather) {
  ScriptedPeer peer(Role::server);
  const int before = peer.engine.output_announcements;
  for (int i = 0; i < 5; ++i) peer.send(FrameType::ping, 0, 0, "12345678");
  EXPECT_EQ(peer.engine.output_announcements, before + 1);
  peer.read();
  peer.send(FrameType::ping, 0, 0, "12345678");
  EXPECT_EQ(peer.engine.output_announcements, before + 2);
}

TEST(TickTest, GivesUnneededStreamsBackButNotThoseInUse) {
  Endpoint client(Role::client);
  for (int round = 0; round < 3; ++round) {
    const size_t from = client.logs.size();
    for (int i = 0; i < 100; ++i) client.open();
    for (size_t i = from; i < client.logs.size(); ++i) client.logs[i]->release();
    for (int i = 0; i < 10; ++i) client.connection.tick(base::Instant());
  }
  EXPECT_EQ(client.connection.open_streams(), 0u);
  EXPECT_TRUE(client.connection.can_open());
}

}  // namespace
}  // namespace weir::http2::testing
