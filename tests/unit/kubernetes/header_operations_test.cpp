// What VirtualServices change in headers: bad operations are left out, each with a finding, and the rest applies.
#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

// A route whose line 9 is `part`.
SourceContents with(const std::string& part) {
  return read_manifest(
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a]\n  http:\n"
      "  - route: [{destination: {host: a}}]\n    timeout: 1s\n    " +
          part + "\n",
      "f.yaml");
}
const config::RouteRule& rule_of(const SourceContents& contents) {
  return std::get<VirtualService>(contents.objects.at(0)).http.at(0);
}
std::string headers(const std::string& side, const std::string& operations) {
  return "headers: {" + side + ": {" + operations + "}}";
}

struct Case {
  const char* side;
  const char* operations;
  const char* message;  // part of the one finding
};

const Case kBad[] = {
    {"request", R"(set: {"": "1"})", "has no name"},
    {"request", R"(set: {"x y": "1"})", "'x y' is no header name"},
    {"request", R"(set: {"x:y": "1"})", "is no header name"},
    {"request", R"(add: {"x\ny": "1"})", "'x\\x0ay' is no header name"},
    {"request", R"(add: {"ü": "1"})", "is no header name"},
    {"request", R"(remove: [""])", "has no name"},
    {"request", R"(remove: ["x y"])", "remove: the header 'x y' is no header name"},
    {"request", R"(set: {":path": "/"})", "pseudo-header"},
    {"request", R"(add: {":method": GET})", "pseudo-header"},
    {"request", R"(remove: [":path"])", "pseudo-header"},
    {"request", R"(remove: [":authority"])", "only set and add of a request"},
    {"request", R"(remove: [Host])", "only set and add of a request"},
    {"response", R"(set: {host: a})", "only set and add of a request"},
    {"response", R"(add: {":authority": a})", "only set and add of a request"},
    {"response", R"(set: {":status": "200"})", "pseudo-header"},
    {"request", R"(set: {Connection: close})", "belongs to a connection"},
    {"request", R"(add: {keep-alive: "5"})", "belongs to a connection"},
    {"request", R"(set: {proxy-connection: a})", "belongs to a connection"},
    {"response", R"(set: {Transfer-Encoding: chunked})", "belongs to a connection"},
    {"response", R"(remove: [Upgrade])", "belongs to a connection"},
    {"request", R"(set: {te: gzip})", "only te: trailers"},
    {"request", R"(set: {x: ""})", "empty value"},
    {"request", R"(set: {x: "a\rb"})", "control characters"},
    {"request", R"(set: {x: "a\nb"})", "control characters"},
    {"request", R"(add: {x: "a\0b"})", "control characters"},
    {"response", R"(add: {x: "a\x7fb"})", "control characters"},
    {"response", R"(set: {x: " a"})", "white space at an end"},
    {"request", R"(set: {":authority": "user@a"})", "no authority"},
    {"request", R"(set: {host: "a b"})", "no authority"},
    {"request", R"(set: {X: "1", x: "2"})", "twice"},
};

TEST(HeaderOperations, ThatHttp2ForbidsAreFindings) {
  for (const Case& c : kBad) {
    const SourceContents contents = with(headers(c.side, c.operations));
    ASSERT_EQ(codes(contents.findings), "WEIR0510") << c.operations << testing::PrintToString(contents);
    const config::Finding& finding = contents.findings[0];
    EXPECT_THAT(finding.message, HasSubstr(c.message)) << c.operations;
    EXPECT_EQ(finding.severity, config::Severity::error);
    EXPECT_EQ(finding.object, "VirtualService default/v");
    EXPECT_EQ(finding.file, "f.yaml");
    EXPECT_EQ(finding.line, 9) << c.operations;
    EXPECT_NE(finding.fix, "") << c.operations;
    EXPECT_EQ(rule_of(contents).timeout, std::chrono::seconds(1));  // the rest applies
  }
}

TEST(HeaderOperations, BadOnesAreLeftOutAndGoodOnesStay) {
  const SourceContents contents =
      with(R"(headers: {request: {set: {Host: a:80, te: trailers, "x y": "1", X-Ok: "a\tb"}, )"
           R"(add: {":authority": b, upgrade: h2c, c: d}, remove: [E, ":path", te]}, response: {remove: [host, F]}})");
  EXPECT_EQ(codes(contents.findings), "WEIR0510 WEIR0510 WEIR0510 WEIR0510") << testing::PrintToString(contents);
  const config::HeaderRules& rules = rule_of(contents).headers;
  EXPECT_THAT(rules.request.set, ElementsAre(Pair("host", "a:80"), Pair("te", "trailers"), Pair("x-ok", "a\tb")));
  EXPECT_THAT(rules.request.add, ElementsAre(Pair(":authority", "b"), Pair("c", "d")));
  EXPECT_THAT(rules.request.remove, ElementsAre("e", "te"));
  EXPECT_THAT(rules.response.remove, ElementsAre("f"));
}

TEST(HeaderOperations, OfADestinationAreCheckedToo) {
  const SourceContents contents = read_manifest(
      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts: [a]\n  http:\n"
      "  - route:\n    - destination: {host: a}\n      headers:\n        request:\n          remove:\n          - ok\n"
      "          - \"b d\"\n",
      "f.yaml");
  ASSERT_EQ(codes(contents.findings), "WEIR0510");
  EXPECT_EQ(contents.findings[0].line, 13);
  EXPECT_THAT(rule_of(contents).destinations.at(0).headers.request.remove, ElementsAre("ok"));
}

TEST(Rewrite, IsChecked) {
  const struct {
    const char* rewrite;
    const char* message;  // null: it is good
    std::optional<config::Rewrite> result;
  } kCases[] = {
      {"{uri: /new/, authority: b:80}", nullptr, config::Rewrite{"/new/", "b:80"}},
      {"{uri: new}", "does not begin with /", std::nullopt},
      {"{uri: \"\"}", "rewrite.uri is empty", std::nullopt},
      {"{uri: \"/a b\"}", "blanks", std::nullopt},
      {"{uri: \"/a\\r\\nb\"}", "control characters", std::nullopt},
      {"{authority: \"\"}", "rewrite.authority is empty", std::nullopt},
      {"{authority: \"a\\nb\"}", "control characters", std::nullopt},
      {"{authority: \"u@a\"}", "no authority", std::nullopt},
      {"{uri: new, authority: b}", "rewrite.uri", config::Rewrite{std::nullopt, "b"}},
      {"{uri: /n, authority: \"b b\"}", "rewrite.authority", config::Rewrite{"/n", std::nullopt}},
  };
  for (const auto& c : kCases) {
    const SourceContents contents = with("rewrite: " + std::string(c.rewrite));
    ASSERT_EQ(codes(contents.findings), c.message ? "WEIR0510" : "") << c.rewrite << testing::PrintToString(contents);
    if (c.message) {
      EXPECT_THAT(contents.findings[0].message, HasSubstr(c.message)) << c.rewrite;
      EXPECT_EQ(contents.findings[0].line, 9) << c.rewrite;
      EXPECT_NE(contents.findings[0].fix, "") << c.rewrite;
    }
    EXPECT_EQ(rule_of(contents).rewrite, c.result) << c.rewrite;
  }
}

}  // namespace
}  // namespace weir::kubernetes
