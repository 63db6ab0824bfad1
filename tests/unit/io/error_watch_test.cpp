#include "io/error_watch.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace weir::io {
namespace {

struct ErrorWatchTest : testing::Test, ErrorWatch::Watcher {
  void SetUp() override {
    auto made = Reactor::create({64, 256});
    ASSERT_TRUE(made.ok()) << made.error().message;
    reactor = std::move(*made);
    const base::Fd listener(socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener.get(), raw, size) + listen(listener.get(), 1) + getsockname(listener.get(), raw, &size), 0);
    there = base::Fd(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(connect(there.get(), raw, size), 0);
    here = base::Fd(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(here);
  }
  void on_broken() override {
    socklen_t size = sizeof error;
    getsockopt(here.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    ++told;
  }
  void run() {
    for (int i = 0; i < 5; ++i) reactor->turn(std::chrono::milliseconds(10));
  }
  void reset() {
    const linger now{1, 0};
    setsockopt(there.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    there.reset();
  }

  std::unique_ptr<Reactor> reactor;
  ErrorWatch watch;
  base::Fd here, there;
  int told = 0, error = 0;
};

TEST_F(ErrorWatchTest, TellsOfAResetAndNotOfBytesOrTheEnd) {
  ASSERT_TRUE(watch.add(*reactor, here.get(), *this));
  ASSERT_EQ(write(there.get(), "x", 1), 1);
  shutdown(there.get(), SHUT_WR);
  run();
  EXPECT_EQ(told, 0);
  reset();
  run();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(error, EPIPE);
}

TEST_F(ErrorWatchTest, TellsOfWhatWasBefore) {
  reset();
  ASSERT_TRUE(watch.add(*reactor, here.get(), *this));
  run();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(error, ECONNRESET);
}

TEST_F(ErrorWatchTest, TellsOfTheEndsOfBothOnce) {
  ASSERT_TRUE(watch.add(*reactor, here.get(), *this));
  shutdown(there.get(), SHUT_WR);
  shutdown(here.get(), SHUT_WR);
  run();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(error, 0);
}

TEST_F(ErrorWatchTest, TellsNobodyAnyMore) {
  ASSERT_TRUE(watch.add(*reactor, here.get(), *this));
  watch.remove(here.get());
  reset();
  run();
  EXPECT_EQ(told, 0);
}

}  // namespace
}  // namespace weir::io
