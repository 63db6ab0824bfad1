// Peers that take more than http2::Limits allows: what the worker counts, and that others do not notice.
#include "lab.h"

namespace weir::proxy::testing {
namespace {

using http2::FrameType;
using http2::Limit;
using http2::testing::frame;
using http2::testing::u32_text;

class LimitTest : public Lab {
 protected:
  static const LimitCounter& of(const LimitCounters& counters, Limit limit) { return counters[http2::index_of(limit)]; }
  // All of them together, so that nothing else was counted.
  static uint64_t total(const LimitCounters& counters) {
    uint64_t sum = 0;
    for (const LimitCounter& counter : counters) sum += counter.drained.value() + counter.enforced.value();
    return sum;
  }
  static std::string settings() {
    return frame(FrameType::settings, 0, 0, "") + frame(FrameType::settings, http2::kFlagAck, 0, "");
  }
  static std::string pings(int n) {
    std::string bytes;
    for (int i = 0; i < n; ++i) bytes += frame(FrameType::ping, 0, 0, "12345678");
    return bytes;
  }
};

TEST_F(LimitTest, AnApplicationThatFloodsLosesItsConnectionOnly) {
  backend();
  start();
  Wire& bystander = client();
  ASSERT_TRUE(until_complete(bystander.unary()));
  Peer& attacker = raw_client();
  attacker.send(std::string(http2::kPreface) + settings() + pings(5000));
  EXPECT_TRUE(until([&] { return attacker.ended || attacker.reset; }));
  EXPECT_EQ(of(stats().downstream_limits, Limit::ping_flood).drained.value(), 1u);
  EXPECT_EQ(of(stats().downstream_limits, Limit::ping_flood).enforced.value(), 1u);
  EXPECT_EQ(total(stats().downstream_limits), 2u);
  EXPECT_EQ(total(stats().upstream_limits), 0u);
  StreamLog& call = bystander.unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 0);
}

// A stream that its client resets is freed on the endpoint's side at once, so that it may count no longer.
TEST_F(LimitTest, RapidResetCancelsUpstreamAtOnce) {
  options.limits.max_concurrent_streams = 10;
  options.limits.floods[bucket_of(Limit::rapid_reset)].burst = 1000;
  Backend& server = backend([](StreamLog&) {});
  start();
  ASSERT_TRUE(until([&, &call = client().unary()] { return server.request_count() == 1 && !complete(call); }));
  Peer& attacker = raw_client();
  attacker.send(std::string(http2::kPreface) + settings());
  http2::HpackEncoder encoder(4096);
  const http::Headers head = to_headers(http2::testing::grpc_request());
  std::string attack;
  for (uint32_t id = 1; id < 2 * 2500; id += 2) {
    std::string block(encoder.prepare(head), '\0');
    block.resize(encoder.encode(reinterpret_cast<uint8_t*>(block.data()), block.size()));
    attack += frame(FrameType::headers, http2::kFlagEndHeaders, id, block);
    attack += frame(FrameType::rst_stream, 0, id, u32_text(http::kCancel));
  }
  attacker.send(attack);
  EXPECT_TRUE(until([&] { return attacker.ended || attacker.reset; }));
  EXPECT_EQ(of(stats().downstream_limits, Limit::rapid_reset).drained.value(), 1u);
  EXPECT_EQ(of(stats().downstream_limits, Limit::rapid_reset).enforced.value(), 1u);
  EXPECT_EQ(total(stats().downstream_limits), 2u) << "never more than ten streams at a time";
  EXPECT_EQ(stats().active_rpcs.value(), 1u);
  EXPECT_TRUE(until([&] {
    const auto requests = server.requests();
    return std::count_if(requests.begin(), requests.end(), [](const StreamLog* r) { return !r->reset; }) == 1;
  })) << "the endpoint has been told of every one";
}

TEST_F(LimitTest, AnEndpointThatFloodsLosesItsConnections) {
  backend<RawBackend>().on_accept = [](Peer& peer) { peer.send(settings() + pings(5000)); };
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_GE(of(stats().upstream_limits, Limit::ping_flood).enforced.value(), 1u);
  EXPECT_GE(of(stats().upstream_limits, Limit::ping_flood).drained.value(), 1u);
  EXPECT_EQ(total(stats().downstream_limits), 0u);
}

}  // namespace
}  // namespace weir::proxy::testing
