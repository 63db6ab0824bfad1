// What a VirtualService and a DestinationRule do to an RPC.
#include "grpc/timeout.h"
#include "lab.h"

namespace weir::proxy::testing {
namespace {

using config::RouteRule;
using config::StringMatch;

void hold(StreamLog&) {}

struct RoutingTest : Lab {
  // The service has these rules.
  void govern(std::vector<RouteRule> rules) {
    auto service = std::make_shared<config::VirtualService>();
    service->namespace_name = "default";
    service->name = "echo";
    service->hosts = {cluster.host};
    service->rules = std::move(rules);
    virtual_services = {std::move(service)};
  }
  RouteRule to(std::string subset = {}) const {
    RouteRule rule;
    rule.destinations.push_back({cluster.host, std::move(subset), std::nullopt, 1, {}});
    return rule;
  }
  // The subset's only endpoint.
  std::shared_ptr<const config::Cluster> part(const std::string& subset, const base::SocketAddress& address) const {
    auto made = std::make_shared<config::Cluster>(cluster);
    made->subset = subset;
    made->name = "outbound|80|" + subset + "|" + cluster.host;
    made->endpoints = {{address, "", ""}};
    return made;
  }
  static Fields request(std::initializer_list<std::pair<std::string, std::string>> more) {
    Fields fields = http2::testing::grpc_request();
    fields.insert(fields.end(), more.begin(), more.end());
    return fields;
  }
  StreamLog& done(Wire& app, const Fields& head = http2::testing::grpc_request()) {
    StreamLog& call = app.call(head, true);
    EXPECT_TRUE(until_complete(call));
    return call;
  }
};

TEST_F(RoutingTest, AHeaderChoosesTheSubset) {
  auto& first = backend();
  auto& second = backend();
  views = {{{},
            std::make_shared<config::Cluster>(cluster),
            {{"v1", part("v1", first.address())}, {"v2", part("v2", second.address())}}}};
  RouteRule to_v2 = to("v2");
  to_v2.matches.resize(1);
  to_v2.matches[0].headers = {{"x-version", StringMatch::exact("2"), false}};
  govern({to_v2, to("v1")});
  start();
  Wire& app = client();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(grpc_status(done(app)), 0);
    EXPECT_EQ(grpc_status(done(app, request({{"x-version", "2"}}))), 0);
    EXPECT_EQ(grpc_status(done(app, request({{"x-version", "3"}}))), 0);
  }
  EXPECT_EQ(first.request_count(), 20u);
  EXPECT_EQ(second.request_count(), 10u);
}

TEST_F(RoutingTest, WeightsShareTheCallsAndChangeWhileTheyRun) {
  auto& first = backend();
  auto& second = backend();
  views = {{{},
            std::make_shared<config::Cluster>(cluster),
            {{"v1", part("v1", first.address())}, {"v2", part("v2", second.address())}}}};
  std::vector<Wire*> apps;
  const auto weigh = [&](uint32_t one, uint32_t two) {
    RouteRule rule = to("v1");
    rule.destinations.push_back({cluster.host, "v2", std::nullopt, two, {}});
    rule.destinations[0].weight = one;
    govern({rule});
  };
  weigh(90, 10);
  start();
  for (int i = 0; i < 2000; ++i) {
    if (i % 50 == 0) apps.push_back(&client());
    EXPECT_EQ(grpc_status(done(*apps.back())), 0);
  }
  // 200 +- 5 standard deviations of a binomial distribution.
  EXPECT_NEAR(static_cast<double>(second.request_count()), 200, 67);
  weigh(0, 1);
  virtual_services = {std::make_shared<config::VirtualService>(*virtual_services[0])};
  apply();
  const size_t before = first.request_count();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(grpc_status(done(*apps.back())), 0);
  EXPECT_EQ(first.request_count(), before);
}

TEST_F(RoutingTest, NoRuleIsNRAndNoClusterIsNC) {
  backend();
  RouteRule never = to();
  never.matches.resize(1);
  never.matches[0].method = StringMatch::exact("GET");
  govern({never});
  start();
  Wire& app = client();
  StreamLog& unrouted = done(app);
  EXPECT_TRUE(trailers_only(unrouted));
  EXPECT_EQ(grpc_status(unrouted), 12);
  EXPECT_TRUE(recorded_becomes("200 grpc 12 NR x1"));
  govern({to("v9")});
  apply();
  EXPECT_EQ(grpc_status(done(app)), 14);
  RouteRule elsewhere = to();
  elsewhere.destinations[0].host = "nobody.default.svc.cluster.local";
  govern({elsewhere});
  apply();
  EXPECT_EQ(grpc_status(done(app)), 14);
  RouteRule nowhere;
  govern({nowhere});
  apply();
  EXPECT_EQ(grpc_status(done(app)), 14);
  EXPECT_TRUE(recorded_becomes("200 grpc 12 NR x1; 200 grpc 14 NC x3"));
}

TEST_F(RoutingTest, TlsThatIsNotAvailableFailsTheCall) {
  auto& server = backend();
  auto tls = std::make_shared<config::Cluster>(cluster);
  tls->tls_wanted = true;
  views = {{{}, tls, {}}};
  start();
  EXPECT_EQ(grpc_status(done(client())), 14);
  EXPECT_TRUE(recorded_becomes("200 grpc 14 UF x1"));
  EXPECT_EQ(server.request_count(), 0u);
}

TEST_F(RoutingTest, ADirectResponseMeetsNoBackend) {
  auto& server = backend();
  RouteRule rule;
  rule.direct_response = {429, "slow down"};
  govern({rule});
  start();
  Wire& app = client();
  StreamLog& call = done(app);
  EXPECT_TRUE(trailers_only(call));
  EXPECT_EQ(grpc_status(call), 14);
  EXPECT_EQ(field(call.heads.at(0), "grpc-message"), "slow down");
  Fields plain = http2::testing::grpc_request();
  std::erase_if(plain, [](const auto& f) { return f.first == "content-type"; });
  StreamLog& page = done(app, plain);
  EXPECT_EQ(field(page.heads.at(0), ":status"), "429");
  EXPECT_EQ(page.body, "slow down");
  EXPECT_EQ(server.request_count(), 0u);
  EXPECT_TRUE(recorded_becomes("200 grpc 14 - x1; 429 grpc -1 - x1"));
}

TEST_F(RoutingTest, ADirectResponseHasTheRulesHeadersButItsOwnFrame) {
  RouteRule rule;
  rule.direct_response = {404, "gone"};
  rule.headers.request.set = {{"x-request", "no"}};
  rule.headers.response.set = {{"x-by", "weir"}, {"content-type", "text/html"}, {"content-length", "99"}};
  rule.headers.response.add = {{"set-cookie", "a=b"}};
  rule.headers.response.remove = {"content-length", "grpc-status"};
  govern({rule});
  start();
  Wire& app = client();
  StreamLog& call = done(app);
  EXPECT_TRUE(trailers_only(call));
  EXPECT_EQ(call.heads.at(0), (Fields{{":status", "200"},
                                      {"content-type", "application/grpc"},
                                      {"x-by", "weir"},
                                      {"set-cookie", "a=b"},
                                      {"grpc-status", "12"},
                                      {"grpc-message", "gone"}}));
  Fields plain = http2::testing::grpc_request();
  std::erase_if(plain, [](const auto& f) { return f.first == "content-type"; });
  StreamLog& page = done(app, plain);
  EXPECT_EQ(page.heads.at(0), (Fields{{":status", "404"},
                                      {"content-length", "4"},
                                      {"content-type", "text/html"},
                                      {"x-by", "weir"},
                                      {"set-cookie", "a=b"}}));
  EXPECT_EQ(page.body, "gone");
  rule.headers.response = {};
  rule.headers.response.set = {{"grpc-status", "5"}};
  govern({rule});
  apply();
  EXPECT_EQ(grpc_status(done(app)), 5);
  EXPECT_TRUE(recorded_becomes("200 grpc 12 - x1; 200 grpc 5 - x1; 404 grpc -1 - x1"));
}

TEST_F(RoutingTest, ARulesTimeoutHoldsAndCapsTheClients) {
  auto& server = backend(hold);
  RouteRule rule = to();
  rule.timeout = 200ms;
  govern({rule});
  start();
  Wire& app = client();
  const base::Instant begun = base::MonotonicClock::now();
  StreamLog& without = app.call(http2::testing::grpc_request(), true);
  StreamLog& longer = app.call(request({{"grpc-timeout", "10S"}}), true);
  StreamLog& shorter = app.call(request({{"grpc-timeout", "50m"}}), true);
  ASSERT_TRUE(until_complete(shorter));
  EXPECT_LT(base::MonotonicClock::now() - begun, 190ms);
  ASSERT_TRUE(until_complete(without));
  EXPECT_GE(base::MonotonicClock::now() - begun, 200ms);
  ASSERT_TRUE(until_complete(longer));
  for (StreamLog* call : {&without, &longer, &shorter}) EXPECT_EQ(grpc_status(*call), 4);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(field(requests[0]->heads.at(0), "grpc-timeout"), "");  // the client has none
  EXPECT_LE(*grpc::parse_timeout(field(requests[1]->heads.at(0), "grpc-timeout")), 200ms);
  EXPECT_LE(*grpc::parse_timeout(field(requests[2]->heads.at(0), "grpc-timeout")), 50ms);
  EXPECT_TRUE(recorded_becomes("200 grpc 4 UT x3"));
}

TEST_F(RoutingTest, HeadersAndPathAreChangedOnTheWay) {
  auto& server = backend();
  RouteRule rule = to();
  rule.headers.request.set = {{"x-rule", "r"}};
  rule.headers.request.remove = {"user-agent"};
  rule.headers.response.set = {{"x-answer", "a"}};
  rule.destinations[0].headers.request.add = {{"x-destination", "d"}};
  rule.destinations[0].headers.response.remove = {"content-type"};
  rule.rewrite = {"/other.Service/Method", "elsewhere"};
  govern({rule});
  start();
  StreamLog& call = done(client());
  EXPECT_EQ(grpc_status(call), 0);
  const auto& head = server.requests().at(0)->heads.at(0);
  EXPECT_EQ(field(head, "x-rule"), "r");
  EXPECT_EQ(field(head, "x-destination"), "d");
  EXPECT_EQ(field(head, "user-agent"), "");
  EXPECT_EQ(field(head, ":path"), "/other.Service/Method");
  EXPECT_EQ(field(head, ":authority"), "elsewhere");
  EXPECT_EQ(field(head, "x-envoy-original-path"), field(http2::testing::grpc_request(), ":path"));
  EXPECT_EQ(field(call.heads.at(0), "x-answer"), "a");
  EXPECT_EQ(field(call.heads.at(0), "content-type"), "");
}

}  // namespace
}  // namespace weir::proxy::testing
