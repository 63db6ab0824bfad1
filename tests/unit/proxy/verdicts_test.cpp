// What is learned of a pod's ports, connection by connection.
#include "proxy/verdicts.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace weir::proxy {
namespace {

using namespace std::chrono_literals;

const base::SocketAddress kDatabase{*base::IpAddress::parse("10.96.0.1"), 5432};
const std::string kService = "database.default.svc.cluster.local";
const base::SocketAddress kOther{*base::IpAddress::parse("10.96.0.1"), 5433};

struct VerdictsTest : ::testing::Test {
  LearningOptions options{.after = 3, .lifetime = 60s, .sample_every = 64};
  std::map<base::SocketAddress, base::Instant> learned;
  Verdicts::Rows rows{[this](uint64_t cookie, const base::SocketAddress& vip, base::Instant expires) {
                        EXPECT_EQ(cookie, 7u);
                        learned[vip] = expires;
                      },
                      [this](uint64_t cookie, const base::SocketAddress& vip) {
                        EXPECT_EQ(cookie, 7u);
                        learned.erase(vip);
                      }};
  Verdicts verdicts{options, rows, 7};
  const base::Instant start{};
};

TEST_F(VerdictsTest, SoManyInARowAreLearnedUntilTheirTimeIsOver) {
  verdicts.opaque(kDatabase, kService, start);
  verdicts.opaque(kDatabase, kService, start);
  verdicts.opaque(kOther, kService, start);
  EXPECT_TRUE(learned.empty());
  verdicts.opaque(kDatabase, kService, start + 1s);
  ASSERT_EQ(learned.size(), 1u);
  EXPECT_EQ(learned[kDatabase], start + 61s);
  verdicts.opaque(kDatabase, kService, start + 50s);  // a sample bears it out
  EXPECT_EQ(learned[kDatabase], start + 110s);
}

TEST_F(VerdictsTest, OneHttp2ConnectionClearsItAndTheCount) {
  for (int i = 0; i < 3; ++i) verdicts.opaque(kDatabase, kService, start);
  verdicts.http2(kDatabase);
  EXPECT_TRUE(learned.empty());
  verdicts.opaque(kDatabase, kService, start);
  verdicts.opaque(kDatabase, kService, start);
  verdicts.http2(kDatabase);
  verdicts.opaque(kDatabase, kService, start);
  EXPECT_TRUE(learned.empty());
}

TEST_F(VerdictsTest, TheNextServiceAtAnAddressIsLearnedAnew) {
  for (int i = 0; i < 3; ++i) verdicts.opaque(kDatabase, kService, start);
  learned.clear();
  for (int i = 0; i < 2; ++i) verdicts.opaque(kDatabase, "next.default.svc.cluster.local", start);
  EXPECT_TRUE(learned.empty());
  verdicts.opaque(kDatabase, "next.default.svc.cluster.local", start);
  EXPECT_EQ(learned.size(), 1u);
}

TEST_F(VerdictsTest, Http2ClearsWhatAnEarlierAgentHasLearned) {
  learned[kDatabase] = start;
  verdicts.http2(kDatabase);
  EXPECT_TRUE(learned.empty());
}

TEST_F(VerdictsTest, NothingIsLearnedWhenSwitchedOff) {
  options.after = 0;
  for (int i = 0; i < 10; ++i) verdicts.opaque(kDatabase, kService, start);
  EXPECT_TRUE(learned.empty());
  EXPECT_FALSE(verdicts.sets_apart(kDatabase, kService, start));
}

TEST_F(VerdictsTest, PortsAreSetApartWhileOthersMayPassBy) {
  const auto apart = [&](base::Duration at) { return verdicts.sets_apart(kDatabase, kService, start + at); };
  EXPECT_FALSE(apart(0s));
  verdicts.opaque(kDatabase, kService, start);
  EXPECT_TRUE(apart(0s)) << "it may be learned soon";
  for (int i = 0; i < 2; ++i) verdicts.opaque(kDatabase, kService, start);
  EXPECT_TRUE(apart(59s));
  EXPECT_TRUE(apart(119s)) << "servers have the last that passed by in TIME_WAIT";
  EXPECT_FALSE(apart(120s)) << "nobody has said anything since";
  EXPECT_FALSE(verdicts.sets_apart(kOther, kService, start));
  EXPECT_FALSE(verdicts.sets_apart(kDatabase, "next.default.svc.cluster.local", start));
  verdicts.opaque(kDatabase, kService, start + 200s);
  EXPECT_TRUE(apart(200s));
  verdicts.http2(kDatabase);
  EXPECT_FALSE(apart(200s));
}

TEST_F(VerdictsTest, APodsPortsAreNotUsedUp) {
  verdicts.opaque(kDatabase, kService, start);
  const auto given = [&](base::Duration at) {
    uint32_t count = 0;
    for (int i = 0; i < 30'000; ++i) count += verdicts.sets_apart(kDatabase, kService, start + at);
    return count;
  };
  EXPECT_EQ(given(1s), Verdicts::kMostApart);
  EXPECT_EQ(given(30s), 0u);
  EXPECT_EQ(given(61s), Verdicts::kMostApart);
}

TEST_F(VerdictsTest, MemoryIsBounded) {
  for (uint32_t i = 0; i < 100'000; ++i) verdicts.opaque({base::IpAddress::v4(i), 80}, kService, start);
  EXPECT_TRUE(learned.empty());
  for (int i = 0; i < 3; ++i) verdicts.opaque(kDatabase, kService, start);
  EXPECT_EQ(learned.size(), 1u);
}

}  // namespace
}  // namespace weir::proxy
