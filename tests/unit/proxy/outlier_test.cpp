// outlierDetection of a DestinationRule: endpoints that fail call after call get none for a while.
#include <numeric>

#include "lab.h"

namespace weir::proxy::testing {
namespace {

auto answering(const std::atomic<int>& status, bool trailers_only) {
  return [&status, trailers_only](StreamLog& log) {
    if (!log.stream || !log.ended) return;
    Fields head = {{":status", "200"}, {"content-type", "application/grpc"}};
    const std::pair<std::string, std::string> end = {"grpc-status", std::to_string(status.load())};
    if (trailers_only) {
      head.push_back(end);
      return log.stream->send_headers(to_headers(head), true);
    }
    log.stream->send_headers(to_headers(head), false);
    log.stream->send_trailers(to_headers({end}));
  };
}

struct OutlierTest : Lab {
  std::atomic<int> status{0};
  config::OutlierDetection& policy = cluster.outlier_detection.emplace();
  OutlierTest() {
    policy.interval = 20ms;
    policy.base_ejection_time = 250ms;
    policy.max_ejection_percent = 100;
  }
  // How many of `count` calls, one after the other, each backend has got.
  template <class... Backends>
  std::vector<size_t> spread(Wire& app, int count, const Backends&... servers) {
    const std::vector<size_t> before{servers.request_count()...};
    for (int i = 0; i < count; ++i) EXPECT_TRUE(until_complete(app.unary()));
    std::vector<size_t> got{servers.request_count()...};
    for (size_t i = 0; i < got.size(); ++i) got[i] -= before[i];
    return got;
  }
};

TEST_F(OutlierTest, FailuresEjectAndTimeBringsBack) {
  for (const bool trailers_only : {true, false}) {
    SCOPED_TRACE(trailers_only);
    cluster.endpoints.clear();
    status = 14;
    auto& good = backend();
    auto& bad = backend(answering(status, trailers_only));
    cluster.load_balancing = config::LoadBalancing::round_robin;
    trailers_only ? start() : apply();
    const uint64_t ejections = stats().outlier_ejections.value();
    Wire& app = client();
    spread(app, 10, good, bad);
    EXPECT_EQ(bad.request_count(), 5u);
    EXPECT_EQ(stats().outlier_ejections.value(), ejections + 1);
    EXPECT_EQ(stats().ejected_endpoints.value(), 1);
    EXPECT_EQ(spread(app, 10, good, bad), (std::vector<size_t>{10, 0}));
    status = 0;
    ASSERT_TRUE(until([&] { return stats().ejected_endpoints.value() == 0; }));
    EXPECT_EQ(spread(app, 10, good, bad), (std::vector<size_t>{5, 5}));
  }
}

TEST_F(OutlierTest, StatusesThatAreNoErrorsEjectNobody) {
  status = 8;
  auto& good = backend();
  auto& busy = backend(answering(status, true));
  cluster.load_balancing = config::LoadBalancing::round_robin;
  start();
  EXPECT_EQ(spread(client(), 40, good, busy), (std::vector<size_t>{20, 20}));
  EXPECT_EQ(stats().outlier_ejections.value(), 0u);
}

TEST_F(OutlierTest, ConnectionsThatCannotBeMadeCount) {
  auto& good = backend();
  base::SocketAddress nobody;
  {
    const base::Fd gone = listen_on_loopback();
    nobody = address_of(gone.get());
  }
  add_endpoint(nobody);
  policy.consecutive_5xx_errors = 1;
  start();
  EXPECT_EQ(spread(client(), 10, good), (std::vector<size_t>{10}));
  EXPECT_EQ(stats().outlier_ejections.value(), 1u);
}

TEST_F(OutlierTest, WithAllEjectedThereIsNoHealthyEndpointUnlessPanicIsAskedFor) {
  status = 13;  // not retried
  auto& bad = backend(answering(status, true));
  policy.consecutive_5xx_errors = 2;
  policy.base_ejection_time = 10s;
  start();
  Wire& app = client();
  EXPECT_EQ(spread(app, 5, bad), (std::vector<size_t>{2}));
  EXPECT_TRUE(recorded_becomes("200 grpc 13 - x2; 200 grpc 14 UH x3")) << recorded();
  policy.min_health_percent = 1;
  apply();
  EXPECT_EQ(spread(app, 5, bad), (std::vector<size_t>{5}));
  cluster.outlier_detection.reset();
  apply();
  EXPECT_EQ(stats().ejected_endpoints.value(), 0);
}

TEST_F(OutlierTest, AnEndpointThatFailsAfterItHasLeftIsNotCountedForEver) {
  policy.consecutive_5xx_errors = 1;
  auto& leaving = backend([](StreamLog&) {});
  start();
  StreamLog& call = client().unary();
  ASSERT_TRUE(until([&] { return leaving.request_count() == 1; }));
  remove_endpoint(leaving.address());
  apply();
  const Fields failure = {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "13"}};
  leaving.only_request()->stream->send_headers(to_headers(failure), true);
  ASSERT_TRUE(until_complete(call));
  EXPECT_EQ(stats().outlier_ejections.value(), 1u);
  EXPECT_TRUE(until([&] { return stats().ejected_endpoints.value() == 0; }));
}

}  // namespace
}  // namespace weir::proxy::testing
