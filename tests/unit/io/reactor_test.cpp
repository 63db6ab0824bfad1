#include "io/reactor.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "io/socket.h"
#include "listener.h"

namespace weir::io {
namespace {

using std::chrono::milliseconds;

// `count` sockets; each turn finds bytes on all of them.
class Linger : public testing::Test {
 protected:
  // The least time that a turn took which began with `said` waiting on each.
  base::Duration shortest_turn(int count, base::Duration linger, const std::string& said = "x") {
    Reactor::Options options;
    options.linger = linger;
    auto reactor = Reactor::create(options);
    EXPECT_TRUE(reactor.ok());
    Listener listener;
    std::vector<std::unique_ptr<Socket>> sockets;
    std::vector<base::Fd> peers;
    for (int i = 0; i < count; ++i) {
      int pair[2];
      EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
      peers.emplace_back(pair[1]);
      sockets.push_back(std::make_unique<Socket>(**reactor, base::Fd(pair[0])));
      sockets.back()->set_events(listener);
      sockets.back()->receive();
    }
    base::Duration shortest = base::Duration::max();
    for (int round = 0; round < 10; ++round) {
      for (const base::Fd& peer : peers) EXPECT_EQ(write(peer.get(), said.data(), said.size()), ssize_t(said.size()));
      const base::Instant begin = base::MonotonicClock::now();
      const int before = listener.chunks;
      (*reactor)->turn(milliseconds(100));
      if (round >= 2) shortest = std::min(shortest, base::MonotonicClock::now() - begin);
      EXPECT_EQ(listener.chunks - before, count);
    }
    for (auto& socket : sockets) socket->close();
    while (listener.closed < count) (*reactor)->turn(milliseconds(1));
    return shortest;
  }
};

TEST_F(Linger, ManyBusySocketsShareATurn) {
  // Where the kernel can't (before 6.12), turns are as short as without.
  Reactor::Options options;
  auto reactor = Reactor::create(options);
  ASSERT_TRUE(reactor.ok());
  const bool can = (*reactor)->can_linger();
  const base::Duration took = shortest_turn(20, milliseconds(20));
  EXPECT_EQ(took >= milliseconds(20), can);
  EXPECT_LT(took, milliseconds(90)) << "it ends when the linger is over, not at the turn's end";
}

TEST_F(Linger, FewSocketsNeverWait) { EXPECT_LT(shortest_turn(3, milliseconds(20)), milliseconds(20)); }

TEST_F(Linger, SocketsThatFillTheirBuffersHaveMoreAtOnce) {
  const std::string full(ReceiveBuffers::kBufferSize, 'x');
  EXPECT_LT(shortest_turn(20, milliseconds(20), full), milliseconds(20));
}

TEST_F(Linger, CanBeTurnedOff) { EXPECT_LT(shortest_turn(20, base::Duration::zero()), milliseconds(20)); }

}  // namespace
}  // namespace weir::io
