// How many buffers wait in the ring, and what happens when they are too few.
#include "io/receive_buffers.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "io/reactor.h"
#include "io/socket.h"
#include "listener.h"

namespace weir::io {
namespace {

struct Ear final : Listener {
  void on_received(base::Slice bytes) override {
    Listener::on_received(bytes);
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  std::string text;
};

size_t resident_bytes() {
  size_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

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
  Ear heard;
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

// The most that wait in the ring have each been written to; then the few of a quiet ring go on being used, and the
// others, which the kernel would come to last, have no memory. What arrives all the same is not lost.
TEST_F(ReceiveBuffersTest, WhatWaitsBeyondTheStockHasNoMemory) {
  connect(ReceiveBuffers::kRingEntries);
  for (int turn = 0; turn < 4; ++turn) say();
  const size_t before = resident_bytes();
  for (int second = 0; second < 10; ++second) buffers().trim();
  EXPECT_EQ(buffers().stock(), ReceiveBuffers::kLeastStock);
  EXPECT_LE(resident_bytes(),
            before - ReceiveBuffers::kRingEntries * 3 / 4 * static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  for (int turn = 0; turn < 4; ++turn) say();
  EXPECT_EQ(heard.text.find_first_not_of('x'), std::string::npos);
}

struct Nop final : Operation {
  void completed(int32_t, uint32_t) override {}
};

// A completion that waits for the next turn refers to a buffer that still counts as one of those in the ring.
TEST_F(ReceiveBuffersTest, BytesThatNobodyTookYetStay) {
  connect(ReceiveBuffers::kRingEntries);
  for (int turn = 0; turn < 4; ++turn) say();
  buffers().trim();  // a busy second, so that the stock is what the ring holds
  // In turns of 512 completions, each of which also lets the kernel receive, these come before any of what is received.
  std::vector<Nop> nops(6000);
  for (Nop& nop : nops) io_uring_prep_nop(reactor->prepare(nop));
  for (const base::Fd& peer : peers) ASSERT_EQ(write(peer.get(), "y", 1), 1);
  const int before = heard.chunks;
  for (int turn = 0; turn < 10; ++turn) reactor->turn(base::Duration(0));
  ASSERT_EQ(heard.chunks, before);
  buffers().trim();  // and a quiet one
  ASSERT_LT(buffers().stock(), ReceiveBuffers::kRingEntries);
  for (int turns = 0; turns < 100 && heard.chunks < before + static_cast<int>(peers.size()); ++turns)
    reactor->turn(std::chrono::milliseconds(10));
  EXPECT_EQ(std::count(heard.text.begin(), heard.text.end(), 'y'), static_cast<long>(peers.size()));
}

}  // namespace
}  // namespace weir::io
