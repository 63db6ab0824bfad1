#include <fcntl.h>
#include <gtest/gtest.h>

#include "base/address.h"
#include "base/buffer.h"
#include "base/fd.h"
#include "base/result.h"

namespace weir::base {
namespace {

TEST(IpAddress, ParsesAndPrints) {
  const struct {
    const char* text;
    const char* printed;  // null: refused
  } cases[] = {
      {"10.0.0.1", "10.0.0.1"}, {"::ffff:10.0.0.1", "10.0.0.1"},
      {"fd00::1", "fd00::1"},   {"::1", "::1"},
      {"0.0.0.0", "0.0.0.0"},   {"", nullptr},
      {"10.0.0", nullptr},      {"10.0.0.256", nullptr},
      {"10.0.0.1 ", nullptr},   {"None", nullptr},
      {"fd00::g", nullptr},     {"1.2.3.4.5.6.7.8.1.2.3.4.5.6.7.8.1.2.3.4.5.6.7", nullptr},
  };
  for (const auto& c : cases) {
    const auto ip = IpAddress::parse(c.text);
    ASSERT_EQ(ip.has_value(), c.printed != nullptr) << c.text;
    EXPECT_EQ(ip ? ip->to_string() : "", c.printed ? c.printed : "") << c.text;
  }
}

TEST(IpAddress, KnowsLoopback) {
  EXPECT_TRUE(IpAddress::parse("127.9.9.9")->is_loopback());
  EXPECT_TRUE(IpAddress::parse("::1")->is_loopback());
  EXPECT_FALSE(IpAddress::parse("10.0.0.1")->is_loopback());
}

TEST(SocketAddress, SurvivesTheKernelsForm) {
  for (const char* text : {"10.1.2.3", "fd00::1"}) {
    const SocketAddress address{*IpAddress::parse(text), 8080};
    sockaddr_storage storage;
    address.to(storage);
    EXPECT_EQ(SocketAddress::from(storage), address);
  }
  EXPECT_EQ((SocketAddress{*IpAddress::parse("fd00::1"), 80}).to_string(), "[fd00::1]:80");
}

TEST(Slice, SharesAndReturnsItsBuffer) {
  static int recycled;
  recycled = 0;
  uint8_t bytes[4] = {1, 2, 3, 4};
  Buffer buffer(bytes, 4, [](Buffer*) { ++recycled; });
  {
    Slice whole(&buffer, bytes, 4);
    Slice tail = whole.sub(2, 2);
    whole = {};
    EXPECT_EQ(recycled, 0);
    EXPECT_EQ(tail.data()[0], 3);
    tail.remove_prefix(1);
    EXPECT_EQ(tail.size(), 1u);
  }
  EXPECT_EQ(recycled, 1);
}

TEST(Fd, ClosesOnce) {
  const int raw = open("/dev/null", O_RDONLY | O_CLOEXEC);
  Fd first(raw);
  Fd second(std::move(first));
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move)
  second.reset();
  EXPECT_EQ(fcntl(raw, F_GETFD), -1);
}

TEST(Result, CarriesValueOrError) {
  const Result<int> good = 3;
  EXPECT_TRUE(good.ok());
  const Result<int> bad = system_error("open /x", ENOENT);
  EXPECT_EQ(bad.error().message, "open /x: No such file or directory");
  EXPECT_EQ(bad.error().code, ENOENT);
}

}  // namespace
}  // namespace weir::base
