// The rows of the BPF map `services`, and what was learned about their addresses, as Snapshots follow each other.
#include "control/service_rows.h"

#include <gmock/gmock.h>

#include <map>
#include <string>

namespace weir::control {
namespace {

using config::Mode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Vips = std::vector<base::SocketAddress>;

constexpr uint64_t kGeneration = 5;
const base::SocketAddress kVip{*base::IpAddress::parse("10.96.0.10"), 80};
const base::SocketAddress kOther{*base::IpAddress::parse("10.96.0.11"), 80};

// A Service of one port, that it has an endpoint for.
std::shared_ptr<const config::Service> service(const std::string& name, const base::SocketAddress& vip, Mode mode,
                                               bool with_endpoint = true) {
  auto made = std::make_shared<config::Service>();
  made->namespace_name = "default";
  made->name = name;
  made->fqdn = name + ".default.svc.cluster.local";
  made->vips = {vip.ip};
  config::ServicePort port;
  port.port = vip.port;
  port.mode = mode;
  port.protocol = mode == Mode::detect ? config::Protocol::unknown : config::Protocol::grpc;
  auto cluster = std::make_shared<config::Cluster>();
  if (with_endpoint) cluster->endpoints.push_back({{*base::IpAddress::parse("10.244.0.9"), 80}, {}, {}});
  port.cluster = std::move(cluster);
  made->ports.push_back(std::move(port));
  return made;
}

config::Snapshot snapshot(std::vector<std::shared_ptr<const config::Service>> services,
                          const config::Snapshot* same_addresses_as = nullptr) {
  config::Snapshot made;
  auto directory = std::make_shared<config::Directory>();
  for (uint32_t i = 0; i < services.size(); ++i)
    services[i]->for_each_vip([&](const base::SocketAddress& address, uint32_t port) {
      directory->by_address[address] = {i, port};
    });
  made.directory = same_addresses_as ? same_addresses_as->directory : directory;
  made.services = std::move(services);
  return made;
}

struct ServiceRowsTest : ::testing::Test {
  std::map<base::SocketAddress, weir_service> map;
  Vips ended;  // since the last change

  ServiceMap operations() {
    ServiceMap operations;
    operations.list = [this]() -> base::Result<std::vector<std::pair<base::SocketAddress, weir_service>>> {
      return std::vector<std::pair<base::SocketAddress, weir_service>>(map.begin(), map.end());
    };
    operations.set = [this](const base::SocketAddress& vip, const weir_service& row) -> base::Result<void> {
      map[vip] = row;
      return {};
    };
    operations.remove = [this](const base::SocketAddress& vip) -> base::Result<void> {
      map.erase(vip);
      return {};
    };
    operations.end_verdicts = [this](const auto& vips) { ended.insert(ended.end(), vips.begin(), vips.end()); };
    return operations;
  }
  ServiceRows rows{operations(), kGeneration, true};
  config::Snapshot present;
  bool first = true;

  void change_to(config::Snapshot next) {
    ended.clear();
    rows.remove_unwanted(next, first ? nullptr : &present);
    EXPECT_THAT(ended, IsEmpty()) << "workers may still learn";
    rows.add_wanted(next, first ? nullptr : &present);
    present = std::move(next);
    first = false;
  }
};

TEST_F(ServiceRowsTest, WhatAPortLearnsEndsWithItsRowItsModeAndItsService) {
  const struct {
    const char* name;
    std::shared_ptr<const config::Service> then;
    bool same_addresses;
    Vips ended;
  } cases[] = {
      {"the same", service("redis", kVip, Mode::detect), false, {}},
      {"deleted", nullptr, false, {kVip}},
      {"declared", service("redis", kVip, Mode::l7), true, {kVip}},
      {"declared to be TCP", service("redis", kVip, Mode::tcp), true, {kVip}},
      {"no endpoint", service("redis", kVip, Mode::detect, false), true, {kVip}},
      {"another Service's", service("greeter", kVip, Mode::detect), false, {kVip}},
      {"another address", service("redis", {kVip.ip, 81}, Mode::detect), false, {kVip}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    map.clear();
    rows = ServiceRows(operations(), kGeneration, true);
    first = true;
    const auto other = service("mail", kOther, Mode::detect);
    change_to(snapshot({service("redis", kVip, Mode::detect), other}));
    EXPECT_EQ(map[kVip].flags, WEIR_SERVICE_LEARNS);
    EXPECT_THAT(ended, IsEmpty());
    if (c.then)
      change_to(snapshot({c.then, other}, c.same_addresses ? &present : nullptr));
    else
      change_to(snapshot({other}));
    EXPECT_EQ(ended, c.ended);
  }
}

TEST_F(ServiceRowsTest, DeclaredPortsHaveNothingToEnd) {
  change_to(snapshot({service("greeter", kVip, Mode::l7)}));
  change_to(snapshot({service("next", kVip, Mode::l7)}));
  EXPECT_THAT(ended, IsEmpty());
  change_to(snapshot({}));
  EXPECT_THAT(ended, IsEmpty());
}

TEST_F(ServiceRowsTest, RowsOfAnEarlierAgentThatMayLearnAreLearnedOn) {
  map[kVip] = {WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS, kGeneration - 1};
  ASSERT_TRUE(rows.adopt().ok());
  change_to(snapshot({service("redis", kVip, Mode::detect)}));
  EXPECT_THAT(ended, IsEmpty());
  EXPECT_EQ(map[kVip].generation, kGeneration);
  EXPECT_EQ(map[kVip].flags, WEIR_SERVICE_LEARNS);
}

TEST_F(ServiceRowsTest, WhatAnEarlierAgentHasLearnedDoesNotHoldWhereNothingIsToBeLearned) {
  map[kVip] = {WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS, kGeneration - 1};
  rows = ServiceRows(operations(), kGeneration, false);
  ASSERT_TRUE(rows.adopt().ok());
  change_to(snapshot({service("redis", kVip, Mode::detect), service("mail", kOther, Mode::detect)}));
  EXPECT_THAT(ended, ElementsAre(kVip));
  EXPECT_EQ(map[kVip].flags, 0u);
  EXPECT_EQ(map[kOther].flags, 0u);
}

}  // namespace
}  // namespace weir::control
