// The PING that proves what the peer has read, and the bound that is kept by it.
#include <gtest/gtest.h>

#include "endpoint.h"
#include "http2/unread_bound.h"

namespace weir::http2 {
namespace {

using testing::Endpoint;
using testing::exchange;

constexpr uint64_t kMiB = 1 << 20;

TEST(UnreadBound, ProbesAfterEachMegabyte) {
  UnreadBound bound;
  EXPECT_FALSE(bound.probe_due());
  bound.sent(kMiB - UnreadBound::kWriteCost - 1);
  EXPECT_FALSE(bound.probe_due());
  bound.sent(1);
  EXPECT_TRUE(bound.probe_due());
  bound.probed(17);
  bound.sent(2 * kMiB);
  EXPECT_FALSE(bound.probe_due()) << "one at a time";
  bound.proven();
  EXPECT_TRUE(bound.probe_due()) << "what left behind the probe is not proven";
  bound.probed(17);
  bound.proven();
  EXPECT_FALSE(bound.probe_due());
}

TEST(UnreadBound, StopsAtFourMegabytesUntilTheProof) {
  UnreadBound bound;
  bound.sent(kMiB);
  bound.probed(17);
  bound.sent(2 * kMiB);
  EXPECT_FALSE(bound.exhausted());
  bound.sent(kMiB);
  EXPECT_TRUE(bound.exhausted());
  bound.proven();
  EXPECT_FALSE(bound.exhausted());
}

TEST(UnreadBound, GoesOnWhileTheProbeItselfWaits) {
  UnreadBound bound;
  bound.sent(kMiB);
  bound.probed(5 * kMiB);
  bound.sent(4 * kMiB);
  EXPECT_FALSE(bound.exhausted());
  bound.sent(kMiB);
  EXPECT_TRUE(bound.exhausted());
}

TEST(UnreadBound, SmallWritesHaveAPrice) {
  UnreadBound bound;
  uint64_t writes = 0;
  for (; !bound.exhausted(); ++writes) {
    bound.sent(1);
    if (bound.probe_due()) bound.probed(17);
  }
  EXPECT_LE(writes, UnreadBound::kMost / UnreadBound::kWriteCost);
}

TEST(Probe, ReturnsWhenThePeerHasReadUpToIt) {
  Endpoint client(Role::client), server(Role::server);
  exchange(client, server);
  EXPECT_EQ(server.connection.probe(0x1122334455667788), 17u) << "a PING frame, and nothing before it";
  EXPECT_EQ(server.probes_returned, 0);
  exchange(client, server);
  EXPECT_EQ(server.probes_returned, 1);
  server.connection.probe(1);
  exchange(client, server);
  EXPECT_EQ(server.probes_returned, 2);
}

TEST(Probe, OnlyItsOwnPayloadIsAProof) {
  Endpoint client(Role::client), server(Role::server);
  exchange(client, server);
  server.connection.probe(7);
  server.output();  // lost on the client, which acknowledges another one
  std::string forged("\0\0\x08\x06\x01\0\0\0\0", 9);
  forged += std::string(8, '\0');
  server.connection.receive(testing::slice_of(forged), base::Instant());
  EXPECT_EQ(server.probes_returned, 0);
  EXPECT_STREQ(server.connection.error(), "");
}

TEST(Probe, IsNotTheDrainsPing) {
  Endpoint client(Role::client), server(Role::server);
  exchange(client, server);
  server.connection.drain();
  server.connection.probe(7);
  exchange(client, server);
  EXPECT_EQ(server.probes_returned, 1);
  EXPECT_TRUE(server.connection.finished());
}

}  // namespace
}  // namespace weir::http2
