#include "http/headers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace weir::http {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

std::vector<std::pair<std::string, std::string>> list(const Headers& headers) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (const Field f : headers) fields.emplace_back(f.name, f.value);
  return fields;
}

TEST(HeadersTest, KeepsOrderAndDuplicates) {
  Headers h;
  h.add("b", "1");
  h.add("a", "2", true);
  h.add("b", "3");
  EXPECT_THAT(list(h), ElementsAre(Pair("b", "1"), Pair("a", "2"), Pair("b", "3")));
  EXPECT_TRUE(h[1].sensitive);
  EXPECT_FALSE(h[2].sensitive);
  EXPECT_EQ(h.get("b"), "1");
  EXPECT_EQ(h.find("c"), std::nullopt);
  EXPECT_EQ(h.get("c"), "");
}

TEST(HeadersTest, SetReplacesTheFirstAndRemovesTheOthers) {
  for (const std::string value : {"", "x", "a longer value than there was"}) {
    Headers h;
    h.add("a", "12");
    h.add("b", "2");
    h.add("a", "3");
    h.set("a", value);
    EXPECT_THAT(list(h), ElementsAre(Pair("a", value), Pair("b", "2")));
    h.set("c", "4");
    EXPECT_THAT(list(h), ElementsAre(Pair("a", value), Pair("b", "2"), Pair("c", "4")));
  }
}

TEST(HeadersTest, SetKeepsAFieldSensitive) {
  Headers h;
  h.add("authorization", "a", true);
  h.set("authorization", "b");
  EXPECT_TRUE(h[0].sensitive);
  h.set("authorization", "longer");
  EXPECT_TRUE(h[0].sensitive);
}

TEST(HeadersTest, SettingAgainAndAgainTakesNoMoreMemory) {
  Headers h;
  h.set("grpc-timeout", "1000m");
  const size_t before = h.bytes();
  for (int i = 0; i < 1000; ++i) h.set("grpc-timeout", i % 2 ? "999m" : "998m");
  EXPECT_EQ(h.bytes(), before);
}

TEST(HeadersTest, ValuesMayComeFromTheListItself) {
  Headers h;
  h.add("first", std::string(40, 'f'));
  for (int i = 0; i < 100; ++i) h.add(h[0].name, h[static_cast<size_t>(i)].value);
  h.set("first", h[5].value.substr(3, 10));
  EXPECT_THAT(list(h), ElementsAre(Pair("first", std::string(10, 'f'))));
}

TEST(HeadersTest, RemoveAndClear) {
  Headers h;
  h.add("a", "1");
  h.add("b", "2");
  h.add("a", "3");
  EXPECT_EQ(h.remove("a"), 2u);
  EXPECT_EQ(h.remove("a"), 0u);
  EXPECT_THAT(list(h), ElementsAre(Pair("b", "2")));
  h.clear();
  EXPECT_TRUE(h.empty());
  EXPECT_EQ(h.bytes(), 0u);
}

}  // namespace
}  // namespace weir::http
