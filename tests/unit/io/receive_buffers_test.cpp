// How many buffers wait in the ring, and what happens when they are too few.
#include "io/receive_buffers.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "io/reactor.h"
#include "io/socket.h"
#include "listener.h"

namespace weir::io {
namespace {

class ReceiveBuffersTest : public testing::Test {
 protected:
  ReceiveBuffersTest() {
    auto made = Reactor::create({});
    EXPECT_TRUE(made.ok());
    reactor = std::move(*made);
  }
  ~ReceiveBuffersTest() override {
    for (auto& socket : sockets) socket->close();
    while (heard.closed < static_cast<int>(sockets.size())) reactor->turn(std::chrono::milliseconds(1));
  }
  ReceiveBuffers& buffers() { return reactor->buffers(); }
  void connect(int count) {
    for (int i = 0; i < count; ++i) {
      int pair[2];
      ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
      peers.emplace_back(pair[1]);
      sockets.push_back(std::make_unique<Socket>(*reactor, base::Fd(pair[0])));
      sockets.back()->set_events(heard);
      sockets.back()->receive();
    }
  }
  // A byte on each connection; returns the turns until all are received.
  int say() {
    for (const base::Fd& peer : peers) EXPECT_EQ(write(peer.get(), "x", 1), 1);
    const int wanted = heard.chunks + static_cast<int>(peers.size());
    int turns = 0;
    for (; heard.chunks < wanted && turns < 100; ++turns) reactor->turn(std::chrono::milliseconds(10));
    EXPECT_EQ(heard.chunks, wanted);
    return turns;
  }

  std::unique_ptr<Reactor> reactor;
  Listener heard;
  std::vector<std::unique_ptr<Socket>> sockets;
  std::vector<base::Fd> peers;
};

TEST_F(ReceiveBuffersTest, AQuietRingKeepsFew) {
  for (int second = 0; second < 10; ++second) buffers().trim();
  EXPECT_EQ(buffers().stock(), ReceiveBuffers::kLeastStock);
}

TEST_F(ReceiveBuffersTest, OneThatRanOutGrowsUntilATurnIsServedAndStaysSoUnderLoad) {
  for (int second = 0; second < 10; ++second) buffers().trim();
  connect(200);
  EXPECT_GT(say(), 1);
  EXPECT_GE(buffers().stock(), 100u);
  for (int second = 0; second < 10; ++second) {
    say();
    buffers().trim();
  }
  EXPECT_GE(buffers().stock(), 100u);
  EXPECT_LE(buffers().stock(), ReceiveBuffers::kRingEntries);
  for (int second = 0; second < 10; ++second) buffers().trim();
  EXPECT_EQ(buffers().stock(), ReceiveBuffers::kLeastStock);
  say();
}

}  // namespace
}  // namespace weir::io
