#include "interception/network_namespace.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <thread>

#include "diversion.h"
#include "inspect.h"

namespace weir::bpf_test {
namespace {

using interception::NetworkNamespace;

uint64_t cookie_of(const base::Fd& socket) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  EXPECT_EQ(getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0);
  return cookie;
}

ino_t current_namespace() {
  struct stat status {};
  EXPECT_EQ(stat("/proc/thread-self/ns/net", &status), 0);
  return status.st_ino;
}

TEST(NetworkNamespaceTest, SocketsBelongToItAndTheThreadComesBack) {
  Pod pod(installed().node);
  NetworkNamespace netns = pod.netns();
  EXPECT_EQ(netns.cookie(), cookie_of(pod.socket(AF_INET)));
  ino_t home = current_namespace();
  for (int family : {AF_INET, AF_INET6}) {
    auto socket = netns.tcp_socket(family);
    ASSERT_TRUE(socket.ok()) << socket.error().message;
    EXPECT_EQ(cookie_of(*socket), netns.cookie());
    EXPECT_TRUE(fcntl(socket->get(), F_GETFL) & O_NONBLOCK);
    EXPECT_TRUE(fcntl(socket->get(), F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(current_namespace(), home);
  }
}

TEST(NetworkNamespaceTest, AThreadMayStayInside) {
  Pod one(installed().node), two(installed().node);
  NetworkNamespace first = one.netns(), second = two.netns();
  const ino_t home = current_namespace();
  const auto open = [](const NetworkNamespace& netns) {
    auto socket = netns.tcp_socket_staying(AF_INET);
    ASSERT_TRUE(socket.ok()) << socket.error().message;
    EXPECT_EQ(cookie_of(*socket), netns.cookie());
    EXPECT_TRUE(fcntl(socket->get(), F_GETFL) & O_NONBLOCK);
    EXPECT_TRUE(fcntl(socket->get(), F_GETFD) & FD_CLOEXEC);
  };
  open(first);
  const ino_t inside = current_namespace();
  EXPECT_NE(inside, home);
  open(first);
  open(second);
  EXPECT_NE(current_namespace(), inside);
  first.leave();
  EXPECT_NE(current_namespace(), home) << "it is in the other one";
  second.leave();
  EXPECT_EQ(current_namespace(), home);
  open(first);
  ASSERT_TRUE(second.tcp_socket(AF_INET).ok());
  EXPECT_EQ(current_namespace(), home) << "an excursion ends there";
  open(first);
  first.leave();
  EXPECT_EQ(current_namespace(), home);
}

TEST(NetworkNamespaceTest, ManyThreadsAtOnce) {
  Pod one(installed().node), two(installed().node);
  NetworkNamespace first = one.netns(), second = two.netns();
  ASSERT_NE(first.cookie(), second.cookie());
  ino_t home = current_namespace();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const NetworkNamespace& netns = i % 2 ? first : second;
      for (int round = 0; round < 200; ++round) {
        auto socket = netns.tcp_socket(AF_INET);
        ASSERT_TRUE(socket.ok());
        ASSERT_EQ(cookie_of(*socket), netns.cookie());
      }
      EXPECT_EQ(current_namespace(), home);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(NetworkNamespaceTest, OpensOnlyNetworkNamespaces) {
  for (const char* path : {"/proc/self/ns/uts", "/dev/null", "/proc/self/ns/none"})
    EXPECT_FALSE(NetworkNamespace::open(path).ok()) << path;
}

TEST(NetworkNamespaceTest, FailureToEnterNamesIt) {
  Pod pod(installed().node);
  NetworkNamespace netns = pod.netns();
  std::string message = in_unprivileged_child([&] {
    auto socket = netns.tcp_socket(AF_INET);
    return socket ? std::string("opened") : socket.error().message;
  });
  EXPECT_THAT(message, testing::HasSubstr("enter a pod's network namespace"));
}

}  // namespace
}  // namespace weir::bpf_test
