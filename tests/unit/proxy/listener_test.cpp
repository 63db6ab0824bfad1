// Listeners that the kernel has no room for in their set (fs.epoll.max_user_watches, memory).
#include <spdlog/sinks/ostream_sink.h>
#include <sys/epoll.h>

#include <sstream>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

// What the kernel refuses is one that is in the set already: the test was there first.
class RefusedListenerTest : public Lab {
 protected:
  void SetUp() override {
    before_ = base::log::default_logger();
    base::log::set_default_logger(
        std::make_shared<base::log::logger>("test", std::make_shared<base::log::sinks::ostream_sink_mt>(log_)));
  }
  void TearDown() override {
    Lab::TearDown();
    base::log::set_default_logger(before_);
  }
  // Of all the worker's sets one is that of its listeners; in the others it does nothing.
  static void occupy(int fd, bool occupied) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      if (std::filesystem::read_symlink(entry, gone) != "anon_inode:[eventpoll]") continue;
      epoll_event none{};
      epoll_ctl(std::stoi(entry.path().filename()), occupied ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fd, &none);
    }
  }
  // Lines about it.
  size_t told() {
    const std::string text = on_worker([this] { return log_.str(); });
    constexpr std::string_view kWords = "listening for pod";
    size_t count = 0;
    for (size_t at = text.find(kWords); at != std::string::npos; at = text.find(kWords, at + 1)) ++count;
    return count;
  }

 private:
  std::ostringstream log_;
  std::shared_ptr<base::log::logger> before_;
};

TEST_F(RefusedListenerTest, ServesAllTheSameAndIsTriedUntilItIsLetIn) {
  backend();
  start();
  auto listening = listen_on_loopback();
  const base::SocketAddress address = address_of(listening.get());
  const int fd = listening.get();
  occupy(fd, true);
  worker().add_source(enrolled_pod("other-uid", std::move(listening)));
  const uint64_t turns = stats().turns.value();
  for (int i = 0; i < 3; ++i) {
    StreamLog& call = add_client_at(address).unary();
    ASSERT_TRUE(until_complete(call, 2s)) << i;
    EXPECT_EQ(grpc_status(call), 0);
  }
  ASSERT_TRUE(until([&] { return stats().accept_failures.value() >= 5; }, 2s));
  EXPECT_LT(stats().turns.value() - turns, 400u) << "it spins";
  EXPECT_EQ(told(), 1u);

  occupy(fd, false);
  settle(50ms);
  const uint64_t failures = stats().accept_failures.value();
  ASSERT_TRUE(until_complete(add_client_at(address).unary(), 2s));
  settle(100ms);
  EXPECT_EQ(stats().accept_failures.value(), failures);
  EXPECT_EQ(told(), 1u);
  worker().remove_source("other-uid");
}

}  // namespace
}  // namespace weir::proxy::testing
