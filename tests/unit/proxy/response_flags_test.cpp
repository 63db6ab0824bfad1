// The table of local replies and response flags: each way an RPC can end, once as gRPC and once as plain HTTP/2.
#include "lab.h"

namespace weir::proxy::testing {
namespace {

struct FlagsTest;

struct Way {
  const char* name;
  void (*arrange)(FlagsTest&);  // before the worker starts
  // After the call is sent; null: nothing more happens.
  void (*provoke)(FlagsTest&);
  const char* grpc;   // as recorded
  const char* plain;  // as recorded
};

void hold(StreamLog&) {}

struct FlagsTest : Lab, ::testing::WithParamInterface<std::tuple<Way, bool>> {
  using Lab::add_endpoint;
  using Lab::backend;
  using Lab::cluster;
  using Lab::options;
  using Lab::worker;
  Backend* server = nullptr;
  Wire* app = nullptr;

  // What governs the service: one rule, without retries unless asked for.
  config::RouteRule rule;
  FlagsTest() {
    rule.destinations.push_back({cluster.host, {}, std::nullopt, 1, {}});
    rule.retries.emplace().attempts = 0;
  }
  void serve(std::function<void(StreamLog&)> answer) { server = &backend(std::move(answer)); }
  bool arrived(size_t count = 1) {
    return until([&] { return server->request_count() == count; });
  }
  StreamLog& send(bool grpc) {
    return app->call(grpc ? http2::testing::grpc_request()
                          : Fields{{":method", "GET"}, {":scheme", "http"}, {":authority", "echo"}, {":path", "/"}},
                     true);
  }
};

const Way kWays[] = {
    {"UH", [](FlagsTest&) {}, nullptr, "200 grpc 14 UH", "503 grpc -1 UH"},
    {"UF",
     [](FlagsTest& t) {
       t.add_endpoint({*base::IpAddress::parse("127.0.0.1"), closed_port()});
     },
     nullptr, "200 grpc 14 UF", "503 grpc -1 UF"},
    {"UC", [](FlagsTest& t) { t.serve(hold); },
     [](FlagsTest& t) {
       ASSERT_TRUE(t.arrived());
       t.server->die();
     },
     "200 grpc 14 UC", "503 grpc -1 UC"},
    {"UR",
     [](FlagsTest& t) {
       t.serve([](StreamLog& log) {
         if (log.stream && log.ended) log.stream->release(http::kInternalError);
       });
     },
     nullptr, "200 grpc 14 UR", "503 grpc -1 UR"},
    {"LR", [](FlagsTest& t) { t.serve(hold); },
     [](FlagsTest& t) {
       ASSERT_TRUE(t.arrived());
       t.worker().drain();
       t.worker().abort_all();
     },
     "200 grpc 14 LR", "503 grpc -1 LR"},
    {"UO",
     [](FlagsTest& t) {
       t.serve(hold);
       t.cluster.connection_pool.max_requests = 0;
     },
     nullptr, "200 grpc 14 UO", "503 grpc -1 UO"},
    {"OM",
     [](FlagsTest& t) {
       t.serve(hold);
       t.options.pod_limits.max_streams = 0;
     },
     nullptr, "200 grpc 14 OM", "503 grpc -1 OM"},
    {"UT",
     [](FlagsTest& t) {
       t.serve(hold);
       t.rule.timeout = 30ms;
     },
     nullptr, "200 grpc 4 UT", "504 grpc -1 UT"},
    {"UTOfOneTry",
     [](FlagsTest& t) {
       t.serve(hold);
       t.rule.retries->per_try_timeout = 30ms;
     },
     nullptr, "200 grpc 4 UT", "504 grpc -1 UT"},
    {"SI",
     [](FlagsTest& t) {
       t.serve(hold);
       t.options.stream_idle_timeout = 30ms;
     },
     nullptr, "200 grpc 4 SI", "408 grpc -1 SI"},
    {"URX",
     [](FlagsTest& t) {
       t.serve([](StreamLog& log) {
         if (log.stream && log.ended) log.stream->release(http::kInternalError);
       });
       t.rule.retries->attempts = 1;
       t.rule.retries->backoff = 1ms;
       t.rule.retries->conditions = static_cast<uint32_t>(config::RetryOn::reset);
     },
     nullptr, "200 grpc 14 UR,URX", "503 grpc -1 UR,URX"},
    {"NR",
     [](FlagsTest& t) {
       t.serve(hold);
       t.rule.matches.resize(1);
       t.rule.matches[0].method = config::StringMatch::exact("PUT");
     },
     nullptr, "200 grpc 12 NR", "404 grpc -1 NR"},
    {"NC",
     [](FlagsTest& t) {
       t.serve(hold);
       t.rule.destinations[0].subset = "nobody";
     },
     nullptr, "200 grpc 14 NC", "503 grpc -1 NC"},
    {"UPE",
     [](FlagsTest& t) {
       t.backend<RawBackend>().on_accept = [](Peer& peer) { peer.send("HTTP/1.1 400 Bad Request\r\n\r\n"); };
     },
     nullptr, "200 grpc 14 UPE", "502 grpc -1 UPE"},
    {"DPE", [](FlagsTest& t) { t.serve(hold); },
     [](FlagsTest& t) {
       ASSERT_TRUE(t.arrived());
       t.app->send(std::string("\0\0\0\x06\0\0\0\0\1", 9));  // PING on a stream
     },
     "0 grpc -1 DPE", "0 grpc -1 DPE"},
    {"DC", [](FlagsTest& t) { t.serve(hold); },
     [](FlagsTest& t) {
       ASSERT_TRUE(t.arrived());
       t.app->close();
     },
     "0 grpc -1 DC", "0 grpc -1 DC"},
};

TEST_P(FlagsTest, SayHowAnRpcEnded) {
  const auto& [way, grpc] = GetParam();
  way.arrange(*this);
  auto service = std::make_shared<config::VirtualService>();
  service->hosts = {cluster.host};
  service->rules = {rule};
  virtual_services = {service};
  start();
  app = &client();
  StreamLog& call = send(grpc);
  if (way.provoke) way.provoke(*this);
  const std::string expected = grpc ? way.grpc : way.plain;
  EXPECT_TRUE(recorded_becomes(expected + " x1"));
  if (expected.starts_with("0 ")) return;  // there was nobody to answer
  ASSERT_TRUE(until_complete(call));
  ASSERT_EQ(call.heads.size(), 1u);
  EXPECT_EQ(field(call.heads[0], ":status"), expected.substr(0, 3));
  if (grpc) {
    EXPECT_TRUE(trailers_only(call));
    EXPECT_EQ(field(call.heads[0], "content-type"), "application/grpc");
    EXPECT_TRUE(expected.find(" grpc " + std::to_string(grpc_status(call)) + " ") != std::string::npos);
    EXPECT_NE(grpc_message(call), "");
  } else {
    EXPECT_EQ(grpc_status(call), -1);
    EXPECT_NE(call.body, "");
  }
  EXPECT_EQ(field(call.heads[0], "x-envoy-overloaded"), std::string(way.name) == "UO" ? "true" : "");
}

INSTANTIATE_TEST_SUITE_P(Ways, FlagsTest, ::testing::Combine(::testing::ValuesIn(kWays), ::testing::Bool()),
                         [](const auto& tested) {
                           return std::string(std::get<0>(tested.param).name) +
                                  (std::get<1>(tested.param) ? "OfGrpc" : "OfPlainHttp");
                         });

}  // namespace
}  // namespace weir::proxy::testing
