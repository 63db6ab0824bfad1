#include "config/snapshot.h"

#include <gtest/gtest.h>

namespace weir::config {
namespace {

std::shared_ptr<const Cluster> cluster(int endpoints) {
  Cluster result;
  for (int i = 0; i < endpoints; ++i) {
    result.endpoints.push_back({{*base::IpAddress::parse("10.0.0." + std::to_string(i + 1)), 80}, "", ""});
  }
  return std::make_shared<const Cluster>(std::move(result));
}

TEST(DivertedMode, DependsOnEndpointsExceptForDeclaredHttp2) {
  struct Case {
    Mode mode;
    int endpoints;
    Mode expected;
  };
  const Case kCases[] = {
      {Mode::l7, 2, Mode::l7},       {Mode::l7, 0, Mode::l7},   {Mode::detect, 2, Mode::detect},
      {Mode::detect, 0, Mode::none}, {Mode::tcp, 2, Mode::tcp}, {Mode::tcp, 0, Mode::none},
      {Mode::none, 2, Mode::none},
  };
  for (const Case& c : kCases) {
    ServicePort port;
    port.mode = c.mode;
    port.cluster = cluster(c.endpoints);
    EXPECT_EQ(port.diverted_mode(), c.expected) << to_string(c.mode) << " " << c.endpoints;
  }
  ServicePort without_cluster;
  without_cluster.mode = Mode::tcp;
  EXPECT_EQ(without_cluster.diverted_mode(), Mode::none);
}

TEST(FindPort, TakesTheTcpPortOfANumber) {
  Service service;
  service.ports.resize(2);
  service.ports[0].port = 53;
  service.ports[0].protocol = Protocol::not_tcp;
  service.ports[1].port = 53;
  service.ports[1].protocol = Protocol::tcp;
  service.ports[1].name = "dns-tcp";
  ASSERT_NE(service.find_port(53), nullptr);
  EXPECT_EQ(service.find_port(53)->name, "dns-tcp");
  EXPECT_EQ(service.find_port(54), nullptr);
}

TEST(Severity, HasNames) {
  EXPECT_STREQ(to_string(Severity::info), "info");
  EXPECT_STREQ(to_string(Severity::warning), "warning");
  EXPECT_STREQ(to_string(Severity::error), "error");
}

}  // namespace
}  // namespace weir::config
