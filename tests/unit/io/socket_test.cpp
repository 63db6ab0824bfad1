#include "io/socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

namespace weir::io {
namespace {

using std::chrono::milliseconds;

std::string text(const base::Slice& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

struct User final : SocketEvents {
  void on_connected(int error) override { connected = error; }
  void on_received(base::Slice bytes) override {
    received += text(bytes);
    if (keep) kept.push_back(std::move(bytes));
  }
  void on_receive_end(int error) override { end = error; }
  void on_sent(int result) override {
    sent += result;
    ++sends;
  }
  void on_writable() override { writable = true; }
  void on_closed() override { closed = true; }

  int connected = -1, end = -1, sent = 0, sends = 0;
  bool writable = false, closed = false, keep = false;
  std::string received;
  std::vector<base::Slice> kept;
};

class SocketTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = Reactor::create({64, 256});
    ASSERT_TRUE(made.ok()) << made.error().message;
    reactor = std::move(*made);
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    peer = base::Fd(pair[1]);
    socket = std::make_unique<Socket>(*reactor, base::Fd(pair[0]));
    socket->set_events(user);
  }
  void TearDown() override {
    user.kept.clear();
    if (!socket) return;
    socket->close();
    run_until([&] { return user.closed; });
    ASSERT_TRUE(user.closed);
  }
  template <class Condition>
  void run_until(Condition done) {
    const base::Instant give_up = base::MonotonicClock::now() + milliseconds(3000);
    while (!done() && base::MonotonicClock::now() < give_up) reactor->turn(milliseconds(20));
  }
  void send(const std::string& bytes, bool more = false) {
    const iovec part{const_cast<char*>(bytes.data()), bytes.size()};
    socket->send({&part, 1}, more);
  }

  std::unique_ptr<Reactor> reactor;
  base::Fd peer;
  User user;
  std::unique_ptr<Socket> socket;
};

TEST_F(SocketTest, ReceivesUntilTheEnd) {
  socket->receive();
  ASSERT_EQ(write(peer.get(), "one", 3), 3);
  run_until([&] { return user.received == "one"; });
  ASSERT_EQ(write(peer.get(), "two", 3), 3);
  run_until([&] { return user.received == "onetwo"; });
  EXPECT_EQ(user.received, "onetwo");
  peer.reset();
  run_until([&] { return user.end != -1; });
  EXPECT_EQ(user.end, 0);
}

TEST_F(SocketTest, ReceiveOnceIsQuietAfterwards) {
  socket->receive_once();
  ASSERT_EQ(write(peer.get(), "a", 1), 1);
  run_until([&] { return !user.received.empty(); });
  ASSERT_EQ(write(peer.get(), "b", 1), 1);
  for (int i = 0; i < 3; ++i) reactor->turn(milliseconds(5));
  EXPECT_EQ(user.received, "a");
  socket->receive_once();
  run_until([&] { return user.received == "ab"; });
  EXPECT_EQ(user.received, "ab");
}

TEST_F(SocketTest, GathersSeveralParts) {
  std::string parts[] = {"one ", "two ", "three"};
  std::vector<iovec> iovecs;
  for (auto& part : parts) iovecs.push_back({part.data(), part.size()});
  socket->send(iovecs, false);
  run_until([&] { return user.sends == 1; });
  EXPECT_EQ(user.sent, 13);
  char buffer[32];
  EXPECT_EQ(read(peer.get(), buffer, sizeof buffer), 13);
  EXPECT_EQ(std::string(buffer, 13), "one two three");
}

TEST_F(SocketTest, AFullSocketGivesAShortCountAndThenWritable) {
  const std::string bulk(4 << 20, 'x');
  send(bulk);
  run_until([&] { return user.sends == 1; });
  EXPECT_GT(user.sent, 0);
  EXPECT_LT(static_cast<size_t>(user.sent), bulk.size());
  EXPECT_TRUE(socket->sending());
  EXPECT_FALSE(user.writable);
  std::string buffer(1 << 20, '\0');
  while (read(peer.get(), buffer.data(), buffer.size()) > 0) {
  }
  run_until([&] { return user.writable; });
  EXPECT_TRUE(user.writable);
  EXPECT_FALSE(socket->sending());
}

TEST_F(SocketTest, SentIsReportedAtOnceToThoseWhoGoOn) {
  send("x", true);
  const base::Instant begin = base::MonotonicClock::now();
  reactor->turn(std::chrono::seconds(2));
  EXPECT_EQ(user.sent, 1);
  EXPECT_LT(base::MonotonicClock::now() - begin, std::chrono::seconds(1));
}

TEST_F(SocketTest, WhatWentWholeEndsNoTurn) {
  send("x");
  const base::Instant begin = base::MonotonicClock::now();
  reactor->turn(milliseconds(50));
  EXPECT_GE(base::MonotonicClock::now() - begin, milliseconds(50));
  EXPECT_EQ(user.sent, 1);
  EXPECT_EQ(user.sends, 1);
}

TEST_F(SocketTest, WhatDidNotGoWholeEndsTheTurn) {
  const std::string much(4 << 20, 'm');
  for (const size_t parts : {1u, 2u}) {
    SCOPED_TRACE(parts);
    user.sends = user.sent = 0;
    const std::vector<iovec> bytes(parts, {const_cast<char*>(much.data()), much.size()});
    socket->send(bytes, false);
    const base::Instant begin = base::MonotonicClock::now();
    reactor->turn(std::chrono::seconds(2));
    EXPECT_LT(base::MonotonicClock::now() - begin, std::chrono::seconds(1));
    EXPECT_EQ(user.sends, 1);
    EXPECT_GT(user.sent, 0);
    EXPECT_LT(user.sent, static_cast<int>(much.size()));
    user.writable = false;
    std::vector<char> read_back(much.size());
    run_until([&] { return read(peer.get(), read_back.data(), read_back.size()) < 0 && user.writable; });
    ASSERT_TRUE(user.writable);
  }
}

// The work of one turn may be more than the queue takes: then some is submitted, and ends, within the turn.
TEST_F(SocketTest, AShortSendIsToldOnceThoughTheQueueFillsMeanwhile) {
  const std::string big(8 << 20, 'x');
  struct Busy final : SocketEvents {
    Busy(Socket& outer, const std::string& text) : sender(outer), bytes(text) {}
    void on_connected(int) override {}
    void on_received(base::Slice) override {
      const iovec all{const_cast<char*>(bytes.data()), bytes.size()};
      sender.send({&all, 1}, false);
      for (auto& other : others) other->receive_once();
    }
    void on_receive_end(int) override {}
    void on_sent(int) override {}
    void on_writable() override {}
    void on_closed() override { ++closed; }
    Socket& sender;
    const std::string& bytes;
    std::vector<std::unique_ptr<Socket>> others;
    int closed = 0;
  } busy(*socket, big);
  std::vector<base::Fd> peers;
  for (int i = 0; i < 100; ++i) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    peers.emplace_back(pair[1]);
    busy.others.push_back(std::make_unique<Socket>(*reactor, base::Fd(pair[0])));
    busy.others.back()->set_events(busy);
  }
  const std::unique_ptr<Socket> trigger = std::move(busy.others.back());
  busy.others.pop_back();
  trigger->receive_once();
  reactor->turn(milliseconds(1));
  ASSERT_EQ(write(peers.back().get(), "x", 1), 1);
  for (int i = 0; i < 5; ++i) reactor->turn(milliseconds(1));
  EXPECT_EQ(user.sends, 1);
  EXPECT_GT(user.sent, 0);
  EXPECT_LT(user.sent, 8 << 20);
  trigger->close();
  for (auto& other : busy.others) other->close();
  run_until([&] { return busy.closed == 100; });
  EXPECT_EQ(busy.closed, 100);
}

TEST_F(SocketTest, CloseWithAWholeSendUnderWay) {
  send("x");
  socket->close();
  const base::Instant begin = base::MonotonicClock::now();
  for (int i = 0; i < 2 && !user.closed; ++i) reactor->turn(std::chrono::seconds(2));
  EXPECT_LT(base::MonotonicClock::now() - begin, std::chrono::seconds(1)) << "nothing else happens";
  EXPECT_TRUE(user.closed);
  EXPECT_EQ(user.sends, 0);
  socket.reset();
  char byte;
  EXPECT_EQ(read(peer.get(), &byte, 1), 1);
}

// More fail than the completion queue has room for: none may be taken for a success.
TEST_F(SocketTest, FailedSendsAreNeverTakenForWhole) {
  auto small = Reactor::create({16, 256});  // 128 completions have room
  ASSERT_TRUE(small.ok()) << small.error().message;
  constexpr size_t kMany = 320;
  std::vector<User> users(kMany);
  std::vector<std::unique_ptr<Socket>> sockets;
  const auto fails = [](size_t i) { return i % 4 != 0; };
  for (size_t i = 0; i < kMany; ++i) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    const base::Fd other(pair[1]);
    if (fails(i)) shutdown(pair[0], SHUT_WR);
    sockets.push_back(std::make_unique<Socket>(**small, base::Fd(pair[0])));
    sockets.back()->set_events(users[i]);
    const iovec part{const_cast<char*>("x"), 1};
    sockets.back()->send({&part, 1}, false);
  }
  const auto run_until_all = [&](auto done) {
    const base::Instant give_up = base::MonotonicClock::now() + milliseconds(3000);
    while (!std::all_of(users.begin(), users.end(), done) && base::MonotonicClock::now() < give_up)
      (*small)->turn(milliseconds(20));
    return std::all_of(users.begin(), users.end(), done);
  };
  EXPECT_TRUE(run_until_all([](const User& one) { return one.sends > 0; }));
  for (size_t i = 0; i < kMany; ++i) {
    EXPECT_EQ(users[i].sends, 1) << i;
    if (fails(i)) {
      EXPECT_EQ(users[i].sent, -EPIPE) << i;
    }
    sockets[i]->close();
  }
  EXPECT_TRUE(run_until_all([](const User& one) { return one.closed; }));
}

TEST_F(SocketTest, SendingToAClosedPeerIsAnError) {
  peer.reset();
  send("x");
  run_until([&] { return user.sends == 1; });
  EXPECT_EQ(user.sent, -EPIPE);
}

TEST_F(SocketTest, HeldBuffersNeverStopTheReactorAndReceivingGoesOn) {
  user.keep = true;  // every chunk pins a buffer
  socket->receive();
  const std::string chunk(100, 'c');
  // More chunks than there are buffers (256).
  size_t written = 0;
  for (int i = 0; i < 400; ++i) {
    if (write(peer.get(), chunk.data(), chunk.size()) == 100) written += 100;
    reactor->turn(milliseconds(1));
  }
  EXPECT_LT(user.received.size(), written);
  user.kept.clear();
  user.keep = false;
  run_until([&] { return user.received.size() == written; });
  EXPECT_EQ(user.received.size(), written);
}

// A turn may bring more than the 256 buffers of the ring hold: the rest is received in the next turn, not by a timer.
TEST_F(SocketTest, RingThatRunsDryWithinATurnDelaysNobody) {
  constexpr size_t kSockets = 30;
  const int size = 400 * 1024;
  const std::string bytes(size, 'x');
  std::vector<base::Fd> peers;
  std::vector<User> users(kSockets);
  std::vector<std::unique_ptr<Socket>> sockets;
  for (size_t i = 0; i < kSockets; ++i) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    peers.emplace_back(pair[1]);
    const int buffer = 2 * size;
    ASSERT_EQ(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer), 0);
    sockets.push_back(std::make_unique<Socket>(*reactor, base::Fd(pair[0])));
    sockets.back()->set_events(users[i]);
    sockets.back()->receive();
  }
  reactor->turn(milliseconds(0));
  for (const base::Fd& other : peers) {
    ASSERT_EQ(write(other.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  const auto all = [&](auto what) { return std::all_of(users.begin(), users.end(), what); };
  const auto arrived = [&] { return all([&](const User& u) { return u.received.size() == bytes.size(); }); };
  for (int turn = 0; turn < 500 && !arrived(); ++turn) {
    reactor->turn(milliseconds(1));
    EXPECT_EQ(reactor->timers().size(), 0u);
  }
  EXPECT_TRUE(arrived());
  for (auto& each : sockets) each->close();
  run_until([&] { return all([](const User& u) { return u.closed; }); });
  EXPECT_TRUE(all([](const User& u) { return u.closed; }));
}

TEST_F(SocketTest, CloseWithAReceivePendingEndsQuietly) {
  socket->receive();
  reactor->turn(milliseconds(1));
  socket->close();
  EXPECT_FALSE(user.closed);  // never from within close()
  run_until([&] { return user.closed; });
  EXPECT_TRUE(user.closed);
  EXPECT_EQ(user.end, -1);
  socket.reset();
}

TEST_F(SocketTest, PostWakesTheReactor) {
  bool ran = false;
  std::thread other([&] { reactor->post([&] { ran = true; }); });
  const base::Instant begin = base::MonotonicClock::now();
  while (!ran && base::MonotonicClock::now() - begin < std::chrono::seconds(5)) reactor->turn(std::chrono::seconds(5));
  other.join();
  EXPECT_TRUE(ran);
  EXPECT_LT(base::MonotonicClock::now() - begin, std::chrono::seconds(3));
}

TEST_F(SocketTest, ConnectReportsRefusal) {
  base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  base::Fd reserved(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));  // bound, not listening
  sockaddr_storage address{};
  base::SocketAddress target{*base::IpAddress::parse("127.0.0.1"), 0};
  ASSERT_EQ(bind(reserved.get(), reinterpret_cast<sockaddr*>(&address), target.to(address)), 0);
  socklen_t size = sizeof address;
  ASSERT_EQ(getsockname(reserved.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  User connecting_user;
  Socket connecting(*reactor, std::move(fd));
  connecting.set_events(connecting_user);
  connecting.connect(base::SocketAddress::from(address));
  run_until([&] { return connecting_user.connected != -1; });
  EXPECT_EQ(connecting_user.connected, ECONNREFUSED);
  connecting.close();
  run_until([&] { return connecting_user.closed; });
  EXPECT_TRUE(connecting_user.closed);
}

}  // namespace
}  // namespace weir::io
