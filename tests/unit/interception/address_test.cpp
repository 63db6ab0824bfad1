#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "interception/maps.h"

namespace weir::interception {
namespace {

struct Case {
  const char* ip;
  uint16_t port;
  std::array<uint8_t, 16> bytes;
};

const Case kCases[] = {
    {"10.96.0.1", 80, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 1}},
    {"::ffff:10.96.0.1", 443, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 96, 0, 1}},
    {"fd00::1", 65535, {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}},
    {"::", 0, {}},
};

TEST(AbiAddress, KeysAreCanonicalAndPortsInNetworkOrder) {
  for (const Case& c : kCases) {
    base::SocketAddress address{base::IpAddress::parse(c.ip).value(), c.port};
    weir_address abi = to_abi(address);
    EXPECT_TRUE(std::equal(c.bytes.begin(), c.bytes.end(), abi.ip)) << c.ip;
    EXPECT_EQ(abi.port_be, htons(c.port)) << c.ip;
    for (uint8_t byte : abi.pad) EXPECT_EQ(byte, 0) << "a map's key is compared whole";
    EXPECT_EQ(from_abi(abi), address) << c.ip;
  }
}

}  // namespace
}  // namespace weir::interception
