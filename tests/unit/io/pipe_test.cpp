// Bytes that cross a pipe from one TCP connection to another.
#include "io/pipe.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

#include <string>

#include "io/socket.h"

namespace weir::io {
namespace {

using std::chrono::milliseconds;

struct User final : SocketEvents {
  void on_connected(int) override {}
  void on_received(base::Slice bytes) override {
    received.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void on_receive_end(int) override {}
  void on_readable() override { readable = true; }
  void on_sent(int) override {}
  void on_writable() override { writable = true; }
  void on_closed() override { closed = true; }
  bool readable = false, writable = false, closed = false;
  std::string received;
};

// Both ends of a TCP connection, which do not block.
std::pair<base::Fd, base::Fd> connection() {
  const base::Fd listening(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  base::Fd one(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  EXPECT_EQ(bind(listening.get(), raw, size), 0);
  EXPECT_EQ(listen(listening.get(), 1), 0);
  EXPECT_EQ(getsockname(listening.get(), raw, &size), 0);
  connect(one.get(), raw, size);
  return {std::move(one), base::Fd(accept4(listening.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC))};
}

class PipeTest : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    auto made = Reactor::create({64, 256});
    ASSERT_TRUE(made.ok()) << made.error().message;
    reactor = std::move(*made);
    open(sender, from, from_user);
    open(reader, to, to_user);
    pipe = pipes.take();
    ASSERT_NE(pipe, nullptr);
  }
  void TearDown() override {
    for (Socket* socket : {from.get(), to.get()}) socket->close();
    EXPECT_TRUE(run_until([&] { return from_user.closed && to_user.closed; }));
  }
  void open(base::Fd& there, std::unique_ptr<Socket>& here, User& user) {
    auto [one, other] = connection();
    there = std::move(one);
    here = std::make_unique<Socket>(*reactor, std::move(other));
    here->set_events(user);
  }
  template <class Condition>
  bool run_until(Condition done) {
    const base::Instant give_up = base::MonotonicClock::now() + milliseconds(3000);
    while (!done() && base::MonotonicClock::now() < give_up) reactor->turn(milliseconds(20));
    return done();
  }
  bool readable() {
    from_user.readable = false;
    from->await_readable();
    return run_until([&] { return from_user.readable; });
  }
  void say(const std::string& bytes) {
    ASSERT_EQ(write(sender.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  std::string heard(size_t at_most = 1 << 20) {
    std::string bytes(at_most, '\0');
    const ssize_t n = read(reader.get(), bytes.data(), bytes.size());
    bytes.resize(n > 0 ? static_cast<size_t>(n) : 0);
    return bytes;
  }

  std::unique_ptr<Reactor> reactor;
  base::Fd sender, reader;
  User from_user, to_user;
  std::unique_ptr<Socket> from, to;
  Pipes pipes{2};
  std::unique_ptr<Pipe> pipe;
};

TEST_F(PipeTest, BytesCrossUntilTheEnd) {
  from->await_readable();
  EXPECT_TRUE(from->receiving());
  reactor->turn(milliseconds(5));
  EXPECT_FALSE(from_user.readable);
  std::string said;
  for (int i = 0; i < 20'000; ++i) said += std::to_string(i);
  say(said);
  ASSERT_TRUE(run_until([&] { return from_user.readable; }));
  std::string all;
  while (all.size() < said.size()) {
    ASSERT_TRUE(readable());
    const int moved = from->receive_into(*pipe);
    ASSERT_GT(moved, 0);
    EXPECT_EQ(pipe->held(), static_cast<uint32_t>(moved));
    ASSERT_EQ(to->send_from(*pipe), moved);
    EXPECT_EQ(pipe->held(), 0u);
    all += heard();
  }
  EXPECT_EQ(all, said);
  EXPECT_FALSE(to->sending());
  EXPECT_EQ(from->receive_into(*pipe), 0) << "nothing is there";
  say("the last");
  shutdown(sender.get(), SHUT_WR);
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), 8);
  EXPECT_EQ(to->send_from(*pipe), 8);
  EXPECT_EQ(heard(), "the last");
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), 0);
}

TEST_F(PipeTest, WhatAFullSocketDoesNotTakeStays) {
  const std::string part(16'384, 'x');
  size_t taken = 0;
  while (!to->sending()) {
    if (pipe->held() == 0) {
      say(part);
      ASSERT_TRUE(readable());
      ASSERT_GT(from->receive_into(*pipe), 0);
    }
    const int sent = to->send_from(*pipe);
    ASSERT_GE(sent, 0);
    taken += static_cast<size_t>(sent);
    ASSERT_LT(taken, 64u << 20);
  }
  const uint32_t left = pipe->held();
  EXPECT_GT(left, 0u);
  EXPECT_LE(left, Pipe::kSize);
  EXPECT_FALSE(to_user.writable);
  size_t read = 0;
  EXPECT_TRUE(run_until([&] { return read += heard().size(), to_user.writable; }));
  EXPECT_EQ(to->send_from(*pipe), static_cast<int>(left));
  EXPECT_TRUE(run_until([&] { return read += heard().size(), read == taken + left; }));
}

TEST_F(PipeTest, WhatWasSaidBeforeAResetIsMoved) {
  say("goodbye");
  const linger now{1, 0};
  setsockopt(sender.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  sender.reset();
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), 7);
  EXPECT_EQ(to->send_from(*pipe), 7);
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), -ECONNRESET);
}

TEST_F(PipeTest, ToAConnectionThatIsBrokenIsAnError) {
  const linger now{1, 0};
  setsockopt(reader.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  reader.reset();
  say("hello");
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), 5);
  EXPECT_LT(to->send_from(*pipe), 0);
}

// Urgent data keep a socket readable, and can't be moved.
TEST_F(PipeTest, UrgentDataAreNotMoved) {
  ASSERT_EQ(::send(sender.get(), "!", 1, MSG_OOB), 1);
  usleep(1000);
  EXPECT_EQ(from->receive_into(*pipe), 0);
  say("more");
  shutdown(sender.get(), SHUT_WR);
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), 0) << "which is not the end";
  from->receive_once();
  ASSERT_TRUE(run_until([&] { return !from_user.received.empty(); }));
  EXPECT_EQ(from_user.received, "more");
}

TEST_F(PipeTest, PipesAreLentAndTrimmed) {
  auto second = pipes.take();
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(pipes.take(), nullptr) << "two, and both are in use";
  Pipe* const first = pipe.get();
  pipes.give_back(std::move(pipe));
  pipe = pipes.take();
  EXPECT_EQ(pipe.get(), first) << "the same again";
  say("lost");
  ASSERT_TRUE(readable());
  EXPECT_EQ(from->receive_into(*pipe), 4);
  pipes.give_back(std::move(pipe));
  EXPECT_EQ(pipes.in_use(), 1u);
  EXPECT_EQ(pipes.idle(), 0u) << "what it held is dropped with it";
  pipes.give_back(std::move(second));
  pipes.trim();
  EXPECT_EQ(pipes.idle(), 1u) << "it was in use";
  pipes.trim();
  EXPECT_EQ(pipes.idle(), 0u);
}

}  // namespace
}  // namespace weir::io
