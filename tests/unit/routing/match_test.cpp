#include "routing/match.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace weir::routing {
namespace {

using config::HeaderMatch;
using config::RequestMatch;
using config::RouteRule;
using config::StringMatch;
using config::VirtualService;

http::Headers headers(std::initializer_list<std::pair<const char*, const char*>> more = {}) {
  http::Headers result;
  result.add(":method", "POST");
  result.add(":scheme", "http");
  result.add(":path", "/pkg.Greeter/SayHello?lang=de&x");
  result.add(":authority", "greeter:80");
  result.add("content-type", "application/grpc");
  for (const auto& [name, value] : more) result.add(name, value);
  return result;
}

const config::Labels kClient = {{"app", "web"}, {"version", "v1"}};

RouteRule rule(std::vector<RequestMatch> matches) {
  RouteRule result;
  result.matches = std::move(matches);
  return result;
}

template <class Set>
RequestMatch with(Set set) {
  RequestMatch match;
  set(match);
  return match;
}

TEST(Match, AsksForEachPartOfTheRequest) {
  struct Case {
    const char* description;
    RequestMatch match;
    bool expected;
  };
  const auto regex = [](const char* pattern) { return StringMatch::regex(pattern).value(); };
  const Case kCases[] = {
      {"nothing", {}, true},
      {"uri exact, without the query", with([](auto& m) { m.uri = StringMatch::exact("/pkg.Greeter/SayHello"); }),
       true},
      {"uri exact, another", with([](auto& m) { m.uri = StringMatch::exact("/pkg.Greeter/"); }), false},
      {"uri prefix of a service", with([](auto& m) { m.uri = StringMatch::prefix("/pkg.Greeter/"); }), true},
      {"uri prefix is raw", with([](auto& m) { m.uri = StringMatch::prefix("/pkg.Gre"); }), true},
      {"uri regex", with([&](auto& m) { m.uri = regex("/pkg\\..*/SayHello"); }), true},
      {"uri regex is of all", with([&](auto& m) { m.uri = regex("/pkg"); }), false},
      {"method", with([](auto& m) { m.method = StringMatch::exact("POST"); }), true},
      {"another method", with([](auto& m) { m.method = StringMatch::exact("GET"); }), false},
      {"scheme", with([](auto& m) { m.scheme = StringMatch::exact("https"); }), false},
      {"authority", with([](auto& m) { m.authority = StringMatch::prefix("greeter"); }), true},
      {"another authority", with([](auto& m) { m.authority = StringMatch::exact("greeter"); }), false},
      {"port", with([](auto& m) { m.port = 80; }), true},
      {"another port", with([](auto& m) { m.port = 81; }), false},
      {"header", with([](auto& m) {
         m.headers = {{"content-type", StringMatch::exact("application/grpc")}};
       }),
       true},
      {"header's prefix", with([](auto& m) {
         m.headers = {{"content-type", StringMatch::prefix("application/")}};
       }),
       true},
      {"header that is not there", with([](auto& m) {
         m.headers = {{"x", StringMatch::exact("")}};
       }),
       false},
      {"present", with([](auto& m) {
         m.headers = {{"x-user", StringMatch()}};
       }),
       true},
      {"not present", with([](auto& m) {
         m.headers = {{"x-nobody", StringMatch()}};
       }),
       false},
      {"several fields are one value", with([](auto& m) {
         m.headers = {{"x-many", StringMatch::exact("a,b")}};
       }),
       true},
      {"without, present", with([](auto& m) {
         m.headers = {{"x-user", StringMatch(), true}};
       }),
       false},
      {"without, not present", with([](auto& m) {
         m.headers = {{"x-nobody", StringMatch(), true}};
       }),
       true},
      {"without that value", with([](auto& m) {
         m.headers = {{"x-user", StringMatch::exact("eve"), true}};
       }),
       true},
      {"all headers", with([](auto& m) {
         m.headers = {{"x-user", StringMatch::exact("ann")}, {"x-nobody", StringMatch()}};
       }),
       false},
      {"labels of the client", with([](auto& m) {
         m.source_labels = {{"app", "web"}};
       }),
       true},
      {"other labels", with([](auto& m) {
         m.source_labels = {{"app", "web"}, {"version", "v2"}};
       }),
       false},
      {"namespace of the client", with([](auto& m) { m.source_namespace = "shop"; }), true},
      {"another namespace", with([](auto& m) { m.source_namespace = "bank"; }), false},
      {"query parameter", with([](auto& m) {
         m.query_params = {{"lang", StringMatch::exact("de")}};
       }),
       true},
      {"another value of it", with([](auto& m) {
         m.query_params = {{"lang", StringMatch::exact("en")}};
       }),
       false},
      {"parameter without a value", with([](auto& m) {
         m.query_params = {{"x", StringMatch::exact("")}};
       }),
       true},
      {"parameter that is not there", with([](auto& m) {
         m.query_params = {{"lan", StringMatch()}};
       }),
       false},
      {"one part fails", with([](auto& m) {
         m.method = StringMatch::exact("POST");
         m.port = 81;
       }),
       false},
  };
  const http::Headers request = headers({{"x-user", "ann"}, {"x-many", "a"}, {"x-many", "b"}});
  for (const Case& c : kCases) {
    VirtualService service;
    service.rules = {rule({c.match})};
    const Match found = match(service, {request, 80, kClient, "shop"});
    EXPECT_EQ(found.rule != nullptr, c.expected) << c.description;
    EXPECT_EQ(found.request, c.expected ? &service.rules[0].matches[0] : nullptr) << c.description;
  }
}

TEST(Match, TakesTheFirstRuleAndAnyOfItsMatches) {
  VirtualService service;
  service.rules = {
      rule({with([](auto& m) { m.port = 1; }), with([](auto& m) { m.method = StringMatch::exact("POST"); })}),
      rule({})};
  const http::Headers request = headers();
  const Match first = match(service, {request, 80, kClient, ""});
  EXPECT_EQ(first.rule, &service.rules[0]);
  EXPECT_EQ(first.request, &service.rules[0].matches[1]);
  service.rules[0].matches.pop_back();
  EXPECT_EQ(match(service, {request, 80, kClient, ""}).rule, &service.rules[1]);
  EXPECT_EQ(match(service, {request, 80, kClient, ""}).request, nullptr);
  service.rules.pop_back();
  EXPECT_EQ(match(service, {request, 80, kClient, ""}).rule, nullptr);
}

TEST(Choose, FollowsTheWeights) {
  std::mt19937_64 random(7);
  const std::vector<uint32_t> kWeights[] = {{90, 10}, {1, 1, 1}, {1, 999}, {UINT32_MAX / 2, UINT32_MAX / 2}};
  constexpr double kDraws = 100'000;
  for (const auto& weights : kWeights) {
    std::vector<config::RouteDestination> destinations(weights.size());
    double total = 0;
    for (size_t i = 0; i < weights.size(); ++i) total += destinations[i].weight = weights[i];
    std::vector<double> counts(weights.size());
    for (int i = 0; i < kDraws; ++i)
      ++counts[static_cast<size_t>(choose(destinations, random()) - destinations.data())];
    for (size_t i = 0; i < weights.size(); ++i) {
      const double share = weights[i] / total;
      // Four standard deviations of a binomial distribution.
      EXPECT_NEAR(counts[i] / kDraws, share, 4 * std::sqrt(share * (1 - share) / kDraws)) << i;
    }
  }
  EXPECT_EQ(choose({}, 5), nullptr);
}

TEST(Governing, IsTheFirstThatTheClientsNamespaceSees) {
  const auto service = [](std::vector<std::string> export_to) {
    auto made = std::make_shared<VirtualService>();
    made->export_to = std::move(export_to);
    return std::shared_ptr<const VirtualService>(made);
  };
  const std::vector<std::shared_ptr<const VirtualService>> candidates = {service({"shop"}), service({"bank", "mint"}),
                                                                         service({})};
  EXPECT_EQ(governing(candidates, "shop"), candidates[0].get());
  EXPECT_EQ(governing(candidates, "mint"), candidates[1].get());
  EXPECT_EQ(governing(candidates, "zoo"), candidates[2].get());
  EXPECT_EQ(governing({}, "zoo"), nullptr);
}

}  // namespace
}  // namespace weir::routing
