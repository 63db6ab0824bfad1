#include "interception/pod_rows.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recorder.h"

namespace weir::interception {
namespace {

using ::testing::ElementsAre;

config::Pod pod_with(config::Dataplane dataplane) {
  config::Pod pod;
  pod.dataplane = dataplane;
  return pod;
}

TEST(MakeRow, SaysWhereAndHow) {
  config::Pod pod = pod_with(config::Dataplane::enabled);
  pod.ips = {*base::IpAddress::parse("fd00::7"), *base::IpAddress::parse("10.1.2.3"),
             *base::IpAddress::parse("10.9.9.9")};
  pod.excluded_ports = {8080, 0, 443};
  weir_pod row = make_row(pod, {2, 12}, 61234, true);
  EXPECT_EQ(row.worker, 2u);
  EXPECT_EQ(row.listener_port_be, htons(61234));
  EXPECT_THAT(row.pod_ip4, ElementsAre(10, 1, 2, 3));
  EXPECT_EQ(row.pod_ip6[0], 0xfd);
  EXPECT_EQ(row.pod_ip6[15], 7);
  EXPECT_EQ(row.excluded_ports_be[0], htons(8080));
  EXPECT_EQ(row.excluded_ports_be[1], htons(443));
  EXPECT_EQ(row.excluded_ports_be[2], 0);
  EXPECT_EQ(row.flags, WEIR_POD_REDIRECT | WEIR_POD_IPV6);
  EXPECT_EQ(row.heartbeat, 12u);
}

TEST(MakeRow, Flags) {
  EXPECT_EQ(make_row(pod_with(config::Dataplane::enabled), {}, 1, false).flags, WEIR_POD_REDIRECT);
  config::Pod pod = pod_with(config::Dataplane::observe);
  pod.fail_closed = true;
  pod.redirect = false;
  EXPECT_EQ(make_row(pod, {}, 1, false).flags, WEIR_POD_OBSERVE | WEIR_POD_FAIL_CLOSED);
}

TEST(MakeRow, KeepsAsManyExcludedPortsAsFit) {
  config::Pod pod = pod_with(config::Dataplane::enabled);
  for (uint16_t port = 1; port <= 40; ++port) pod.excluded_ports.push_back(port);
  weir_pod row = make_row(pod, {}, 1, false);
  for (uint16_t i = 0; i < WEIR_MAX_EXCLUDED_PORTS; ++i) EXPECT_EQ(ntohs(row.excluded_ports_be[i]), i + 1);
}

class Owned : public ::testing::Test {
 protected:
  static weir_pod row_of(uint64_t generation, uint32_t flags = 0) {
    weir_pod row{};
    row.generation = generation;
    row.flags = flags;
    return row;
  }
  testing::Recorder map_;
  OwnedRows rows_{map_.map(), 7};
};

TEST_F(Owned, WritesUnderItsGeneration) {
  ASSERT_TRUE(rows_.take(1, row_of(0)).ok());
  EXPECT_EQ(map_.rows.at(1).generation, 7u);
}

TEST_F(Owned, TakesOverAsAWhole) {
  map_.rows[1] = row_of(6, WEIR_POD_FAIL_CLOSED);
  ASSERT_TRUE(rows_.take(1, row_of(0, WEIR_POD_OBSERVE)).ok());
  EXPECT_EQ(map_.rows.at(1).generation, 7u);
  EXPECT_EQ(map_.rows.at(1).flags, WEIR_POD_OBSERVE);
}

TEST_F(Owned, UpdatesOnlyItsOwn) {
  map_.rows = {{1, row_of(8)}, {2, row_of(7)}};
  for (uint64_t cookie : {1, 2, 3}) ASSERT_TRUE(rows_.update(cookie, row_of(0, WEIR_POD_OBSERVE)).ok());
  EXPECT_EQ(map_.rows.at(1).generation, 8u);
  EXPECT_EQ(map_.rows.at(1).flags, 0u);
  EXPECT_EQ(map_.rows.at(2).flags, WEIR_POD_OBSERVE);
  EXPECT_EQ(map_.rows.at(3).generation, 7u);
}

TEST_F(Owned, RemovesOnlyItsOwn) {
  map_.rows = {{1, row_of(7)}, {2, row_of(8)}};
  for (uint64_t cookie : {1, 2, 3}) ASSERT_TRUE(rows_.remove(cookie).ok());
  EXPECT_FALSE(rows_.exists(1).value());
  EXPECT_TRUE(rows_.exists(2).value());
}

TEST_F(Owned, AnOperatorsBrakeOutlastsTheAgentButNotThePod) {
  map_.rows = {{1, row_of(7)}, {2, row_of(7)}, {3, row_of(8)}};
  map_.brakes = {1, 2, 3};
  ASSERT_TRUE(rows_.withdraw(1).ok());
  for (uint64_t cookie : {2, 3}) ASSERT_TRUE(rows_.remove(cookie).ok());
  EXPECT_THAT(map_.brakes, ElementsAre(1, 3)) << "3 is another agent's pod now";
  EXPECT_FALSE(rows_.exists(1).value());
  for (uint64_t cookie : {2, 3}) ASSERT_TRUE(rows_.withdraw(cookie).ok());
  EXPECT_TRUE(rows_.exists(3).value());
}

TEST_F(Owned, SweepsThoseOfOthers) {
  map_.rows = {{1, row_of(7)}, {2, row_of(8)}, {3, row_of(6)}};
  ASSERT_TRUE(rows_.sweep().ok());
  EXPECT_EQ(map_.rows.size(), 1u);
  EXPECT_TRUE(rows_.exists(1).value());
}

}  // namespace
}  // namespace weir::interception
