#include "routing/transform.h"

#include <gtest/gtest.h>

namespace weir::routing {
namespace {

std::string text(const http::Headers& headers) {
  std::string all;
  for (const http::Field field : headers)
    all.append(all.empty() ? "" : " ").append(field.name).append("=").append(field.value);
  return all;
}

TEST(Transform, RemovesSetsAndAdds) {
  http::Headers headers;
  headers.add(":authority", "a");
  headers.add("x", "1");
  headers.add("x", "2");
  headers.add("y", "3");
  headers.add("z", "4");
  apply({{{"x", "5"}, {"new", "6"}}, {{"y", "7"}}, {"z", "missing"}}, headers);
  EXPECT_EQ(text(headers), ":authority=a x=5 y=3 new=6 y=7");
  apply({{{"x", "8"}}, {{"y", "9"}}, {"x", "y"}}, headers);
  EXPECT_EQ(text(headers), ":authority=a new=6 x=8 y=9");
}

TEST(Transform, ChangesNoPseudoHeaderButTheAuthority) {
  http::Headers headers;
  headers.add(":path", "/p");
  headers.add(":authority", "a");
  apply({{{":path", "/q"}, {"host", "b"}}, {{":method", "GET"}}, {":path", "host"}}, headers);
  EXPECT_EQ(text(headers), ":path=/p :authority=b");
}

TEST(Transform, RewritesWhatMatched) {
  config::RequestMatch prefix, exact;
  prefix.uri = config::StringMatch::prefix("/old/");
  exact.uri = config::StringMatch::exact("/old/a");
  const struct {
    const config::RequestMatch* match;
    const char* path;
    const char* expected;
  } kCases[] = {
      {&prefix, "/old/a?q=1", "/new/a?q=1"},
      {&exact, "/old/a?q=1", "/new/?q=1"},
      {nullptr, "/old/a#f", "/new/#f"},
  };
  for (const auto& c : kCases) {
    http::Headers headers;
    headers.add(":path", c.path);
    headers.add(":authority", "a");
    rewrite({"/new/", std::nullopt}, c.match, headers);
    EXPECT_EQ(headers.get(":path"), c.expected);
    EXPECT_EQ(headers.get("x-envoy-original-path"), c.path);
    EXPECT_EQ(headers.get(":authority"), "a");
  }
  http::Headers headers;
  headers.add(":path", "/p");
  headers.add(":authority", "a");
  rewrite({std::nullopt, "b"}, nullptr, headers);
  EXPECT_EQ(text(headers), ":path=/p :authority=b x-envoy-original-host=a");
}

}  // namespace
}  // namespace weir::routing
