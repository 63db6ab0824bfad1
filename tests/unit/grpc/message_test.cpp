#include "grpc/message.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace weir::grpc {
namespace {

TEST(PercentTest, Encodes) {
  EXPECT_EQ(percent_encode(""), "");
  EXPECT_EQ(percent_encode("no route to host"), "no route to host");
  EXPECT_EQ(percent_encode("100%"), "100%25");
  EXPECT_EQ(percent_encode("a\r\nb\x7f"), "a%0D%0Ab%7F");
  EXPECT_EQ(percent_encode("gr\xc3\xbc\xc3\x9f"), "gr%C3%BC%C3%9F");
  EXPECT_EQ(percent_encode(" a "), "%20a%20");
  EXPECT_EQ(percent_encode(" "), "%20");
}

TEST(PercentTest, DecodesAndKeepsWhatIsBroken) {
  EXPECT_EQ(percent_decode("100%25"), "100%");
  EXPECT_EQ(percent_decode("%e2%82%AC"), "\xe2\x82\xac");
  for (const char* broken : {"%", "%2", "a%", "%zz", "%2x", "%x2"}) EXPECT_EQ(percent_decode(broken), broken);
  EXPECT_EQ(percent_decode("%%41"), "%A");
}

TEST(PercentTest, EveryByteSurvives) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(percent_decode(percent_encode(all)), all);
}

std::vector<uint8_t> body(std::initializer_list<uint32_t> sizes) {
  std::vector<uint8_t> bytes;
  for (const uint32_t size : sizes) {
    const uint8_t prefix[] = {0, static_cast<uint8_t>(size >> 24), static_cast<uint8_t>(size >> 16),
                              static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size)};
    bytes.insert(bytes.end(), prefix, prefix + 5);
    bytes.insert(bytes.end(), size, 0xff);
  }
  return bytes;
}

TEST(MessageCounterTest, CountsHoweverTheBodyIsCut) {
  const std::vector<uint8_t> bytes = body({0, 1, 5, 300, 0, 70000});
  for (const size_t part : {size_t{1}, size_t{2}, size_t{5}, size_t{6}, size_t{1000}, bytes.size()}) {
    MessageCounter counter;
    for (size_t at = 0; at < bytes.size(); at += part) {
      EXPECT_LE(counter.complete(), 5u);
      counter.add(std::span(bytes).subspan(at, std::min(part, bytes.size() - at)));
    }
    EXPECT_EQ(counter.complete(), 6u);
    EXPECT_TRUE(counter.at_boundary());
  }
}

TEST(MessageCounterTest, KnowsAnUnfinishedMessage) {
  MessageCounter counter;
  EXPECT_TRUE(counter.at_boundary());
  const std::vector<uint8_t> bytes = body({3});
  for (size_t at = 0; at + 1 < bytes.size(); ++at) {
    counter.add(std::span(bytes).subspan(at, 1));
    EXPECT_FALSE(counter.at_boundary()) << at;
    EXPECT_EQ(counter.complete(), 0u);
  }
  counter.add(std::span(bytes).last(1));
  EXPECT_TRUE(counter.at_boundary());
  EXPECT_EQ(counter.complete(), 1u);
}

TEST(MessageCounterTest, TheLargestLengthIsHarmless) {
  MessageCounter counter;
  const uint8_t prefix[] = {1, 0xff, 0xff, 0xff, 0xff, 9, 9};
  counter.add(prefix);
  EXPECT_EQ(counter.complete(), 0u);
  EXPECT_FALSE(counter.at_boundary());
}

}  // namespace
}  // namespace weir::grpc
