#include "interception/loopback_listeners.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/address.h"
#include "sandbox.h"

namespace weir::interception {
namespace {

class Listeners : public ::testing::Test {
 protected:
  void SetUp() override { process_.make_netns(); }
  base::Result<LoopbackListeners> open(uint16_t first, uint16_t lowest) {
    auto netns = NetworkNamespace::open(process_.netns().c_str());
    if (!netns) return netns.error();
    return open_loopback_listeners(*netns, first, lowest);
  }
  // A socket of the pod that listens on `ip`.
  base::Fd occupy(const char* ip, uint16_t port) {
    auto netns = NetworkNamespace::open(process_.netns().c_str());
    sockaddr_storage raw{};
    socklen_t size = base::SocketAddress{*base::IpAddress::parse(ip), port}.to(raw);
    auto socket = netns->tcp_socket(raw.ss_family);
    EXPECT_EQ(bind(socket->get(), reinterpret_cast<sockaddr*>(&raw), size), 0);
    EXPECT_EQ(listen(socket->get(), 1), 0);
    return std::move(socket.value());
  }
  testing::Process process_;
};

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(getsockopt(fd, level, name, &value, &size), 0);
  return value;
}

TEST_F(Listeners, AreAtOnePortOfBothFamilies) {
  auto pair = open(61500, 61000);
  ASSERT_TRUE(pair.ok()) << pair.error().message;
  EXPECT_EQ(pair->port, 61500);
  for (const base::Fd* fd : {&pair->v4, &pair->v6}) {
    sockaddr_storage raw{};
    socklen_t size = sizeof raw;
    ASSERT_EQ(getsockname(fd->get(), reinterpret_cast<sockaddr*>(&raw), &size), 0);
    EXPECT_TRUE(base::SocketAddress::from(raw).ip.is_loopback());
    EXPECT_EQ(base::SocketAddress::from(raw).port, 61500);
    EXPECT_EQ(option(fd->get(), SOL_SOCKET, SO_ACCEPTCONN), 1);
    EXPECT_EQ(option(fd->get(), SOL_SOCKET, SO_REUSEPORT), 0);
    EXPECT_NE(option(fd->get(), IPPROTO_TCP, TCP_NODELAY), 0) << "or small answers would wait for an ACK";
  }
  EXPECT_EQ(option(pair->v6.get(), IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

TEST_F(Listeners, PassOverPortsOfThePod) {
  base::Fd v4 = occupy("127.0.0.1", 65534);
  base::Fd wildcard = occupy("0.0.0.0", 65535);
  base::Fd v6 = occupy("::1", 61000);
  base::Fd dual = occupy("::", 61001);
  auto pair = open(65534, 61000);
  ASSERT_TRUE(pair.ok()) << pair.error().message;
  EXPECT_EQ(pair->port, 61002);
}

TEST_F(Listeners, GiveUpWhenAllAreTaken) {
  base::Fd only = occupy("127.0.0.1", 65535);
  auto pair = open(65535, 65535);
  ASSERT_FALSE(pair.ok());
  EXPECT_EQ(pair.error().code, EADDRINUSE);
}

TEST(ListenersWithoutIpv6, AreOfOneFamily) {
  testing::Process process;
  process.make_netns_without_ipv6();
  auto netns = NetworkNamespace::open(process.netns().c_str());
  ASSERT_TRUE(netns.ok());
  auto pair = open_loopback_listeners(*netns, 61000, 61000);
  ASSERT_TRUE(pair.ok()) << pair.error().message;
  EXPECT_TRUE(pair->v4);
  EXPECT_FALSE(pair->v6);
}

TEST(ListenersWithoutLoopback, Fail) {
  testing::Process process;
  process.make_netns_with_loopback_down();
  auto netns = NetworkNamespace::open(process.netns().c_str());
  ASSERT_TRUE(netns.ok());
  auto pair = open_loopback_listeners(*netns, 61000, 61000);
  ASSERT_FALSE(pair.ok());
  EXPECT_EQ(pair.error().code, ENETDOWN);
}

}  // namespace
}  // namespace weir::interception
