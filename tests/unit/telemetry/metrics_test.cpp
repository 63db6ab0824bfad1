#include "telemetry/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <utility>

#include "mesh.h"

namespace weir::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

class MetricsTest : public testing::Test {
 protected:
  MetricsTest() { log_ = AccessLog::open({.mode = LogMode::off, .path = folder_.log()}).value(); }
  TemporaryFolder folder_;
  std::unique_ptr<AccessLog> log_;
  Mesh mesh_;
};

TEST_F(MetricsTest, ShowsIstiosLabels) {
  Recorder first(*log_), second(*log_);
  Metrics metrics("east");
  metrics.watch(first);
  metrics.watch(second);
  first.record(mesh_.rpc());
  second.record(mesh_.rpc());  // the same series at another worker
  const std::string text = metrics.exposition();
  EXPECT_THAT(
      text,
      HasSubstr("istio_requests_total{reporter=\"source\",source_workload=\"greeter-client\","
                "source_canonical_service=\"greeter-client\",source_canonical_revision=\"v2\","
                "source_workload_namespace=\"default\",source_principal=\"unknown\",source_app=\"greeter-client\","
                "source_version=\"v2\",source_cluster=\"east\",destination_workload=\"greeter\","
                "destination_workload_namespace=\"shop\",destination_principal=\"unknown\","
                "destination_app=\"greeter\",destination_version=\"unknown\","
                "destination_service=\"greeter.shop.svc.cluster.local\",destination_canonical_service=\"greeter\","
                "destination_canonical_revision=\"latest\",destination_service_name=\"greeter\","
                "destination_service_namespace=\"shop\",destination_cluster=\"east\",request_protocol=\"grpc\","
                "response_code=\"200\",grpc_response_status=\"0\",response_flags=\"-\","
                "connection_security_policy=\"unknown\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE istio_request_duration_milliseconds histogram"));
  EXPECT_THAT(text, HasSubstr("le=\"5\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("le=\"10\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("le=\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE istio_request_messages_total counter"));
  EXPECT_THAT(text, Not(HasSubstr("istio_tcp_")));
}

TEST_F(MetricsTest, PlainHttpHasNoMessagesAndNoGrpcStatus) {
  Recorder recorder(*log_);
  Metrics metrics;
  metrics.watch(recorder);
  Rpc rpc = mesh_.rpc();
  rpc.grpc = false;
  rpc.grpc_status = -1;
  recorder.record(rpc);
  const std::string text = metrics.exposition();
  EXPECT_THAT(text, HasSubstr("request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\""));
  EXPECT_THAT(text, Not(HasSubstr("istio_request_messages_total")));
}

TEST_F(MetricsTest, ShowsTcp) {
  Recorder recorder(*log_);
  Metrics metrics;
  metrics.watch(recorder);
  const auto value = [&](const std::string& name, const std::string& flags) {
    const std::string text = metrics.exposition();
    const std::regex line(name + R"(\{[^}]*request_protocol="tcp",response_flags=")" + flags + R"("[^}]*\} (\d+))");
    std::smatch found;
    return std::regex_search(text, found, line) ? std::stoi(found[1]) : -1;
  };
  TcpConnection connection;
  connection.source = &mesh_.client;
  connection.service = &mesh_.service;
  connection.endpoint = &mesh_.cluster->endpoints[0];
  recorder.opened(connection);
  connection.bytes_received = 10;
  connection.bytes_sent = 20;
  recorder.progress(connection);
  EXPECT_EQ(value("istio_tcp_connections_opened_total", "-"), 1);
  EXPECT_EQ(value("istio_tcp_received_bytes_total", "-"), 10) << "while it lasts";
  EXPECT_EQ(value("istio_tcp_sent_bytes_total", "-"), 20);
  EXPECT_EQ(value("istio_tcp_connections_closed_total", "-"), -1);

  connection.counted_received = std::exchange(connection.bytes_received, 13);
  connection.counted_sent = std::exchange(connection.bytes_sent, 21);
  connection.flags.set(Flag::UC);
  connection.ended = connection.started + std::chrono::milliseconds(30);
  recorder.record(connection);
  EXPECT_EQ(value("istio_tcp_received_bytes_total", "-"), 10);
  EXPECT_EQ(value("istio_tcp_received_bytes_total", "UC"), 3) << "what came since";
  EXPECT_EQ(value("istio_tcp_sent_bytes_total", "UC"), 1);
  EXPECT_EQ(value("istio_tcp_connections_closed_total", "UC"), 1);
  EXPECT_EQ(value("weir_tcp_connection_duration_milliseconds_sum", "UC"), 30);
  EXPECT_EQ(value("weir_tcp_connection_duration_milliseconds_count", "UC"), 1);
}

TEST_F(MetricsTest, ShowsPortsThatAreNotWhatTheyDeclare) {
  Recorder first(*log_), second(*log_);
  Metrics metrics;
  metrics.watch(first);
  metrics.watch(second);
  EXPECT_TRUE(metrics.misdeclared().empty());
  first.misdeclared(mesh_.service, 50051);
  first.misdeclared(mesh_.service, 50051);
  first.misdeclared(mesh_.service, 50052);
  second.misdeclared(mesh_.service, 50051);
  EXPECT_THAT(metrics.exposition(),
              HasSubstr("weir_misdeclared_connections_total{destination_service_name=\"greeter\","
                        "destination_service_namespace=\"shop\",destination_port=\"50051\"} 3\n"));
  EXPECT_EQ(metrics.misdeclared(), (std::map<ServicePortLabels, uint64_t>{{{"shop", "greeter", "50051"}, 3},
                                                                          {{"shop", "greeter", "50052"}, 1}}));
}

TEST_F(MetricsTest, TheOwnFamiliesAreAsked) {
  Metrics metrics;
  double pods = 3;
  metrics.add("weir_pods_enrolled", "Pods that divert", MetricKind::gauge, [&] { return pods; });
  metrics.add_family("weir_bypass_total", "Connections that went the plain way", MetricKind::counter, [] {
    return std::vector<Sample>{{{{"reason", "brake"}}, 4}, {{{"reason", "no_listener"}}, 5}};
  });
  EXPECT_THAT(metrics.exposition(), HasSubstr("# TYPE weir_pods_enrolled gauge\nweir_pods_enrolled 3\n"));
  pods = 4;
  const std::string text = metrics.exposition();
  EXPECT_THAT(text, HasSubstr("weir_pods_enrolled 4\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE weir_bypass_total counter"));
  EXPECT_THAT(text, HasSubstr("weir_bypass_total{reason=\"no_listener\"} 5\n"));
}

TEST_F(MetricsTest, AnEndpointThatIsNeverPickedCountsInTheImbalance) {
  Recorder recorder(*log_);
  auto snapshot = std::make_shared<config::Snapshot>();
  snapshot->services = {std::make_shared<config::Service>(mesh_.service)};
  Metrics metrics;
  metrics.watch(recorder);
  metrics.use_snapshot([&] { return snapshot; });
  for (int i = 0; i < 10; ++i) recorder.record(mesh_.rpc(0));
  const std::string labels =
      "weir_endpoint_imbalance{cluster=\"outbound|50051||greeter.shop.svc.cluster.local\","
      "destination_service_name=\"greeter\",destination_service_namespace=\"shop\"} ";
  EXPECT_THAT(metrics.exposition(), HasSubstr(labels + "3\n"));
  for (int i = 0; i < 10; ++i) {
    recorder.record(mesh_.rpc(1));
    recorder.record(mesh_.rpc(2));
  }
  const std::string text = metrics.exposition();
  EXPECT_THAT(text, HasSubstr(labels + "1\n"));
  EXPECT_THAT(text, HasSubstr("endpoint=\"10.0.0.2:50051\",pod=\"greeter-2\"} 10\n"));
}

TEST_F(MetricsTest, TheImbalanceIsThatOfTheLastMinutes) {
  Recorder recorder(*log_);
  Metrics metrics;
  metrics.watch(recorder);
  const auto at = [](int seconds) { return base::Instant(std::chrono::seconds(1000 + seconds)); };
  const auto even = [&] {
    for (size_t i = 0; i < 3; ++i) recorder.record(mesh_.rpc(i));
  };
  for (int i = 0; i < 100; ++i) recorder.record(mesh_.rpc(0));
  even();
  EXPECT_THAT(metrics.exposition(at(0)), HasSubstr("weir_endpoint_imbalance"));
  EXPECT_THAT(metrics.exposition(at(61)), Not(HasSubstr("shop\"} 1\n")));
  even();
  EXPECT_THAT(metrics.exposition(at(122)), HasSubstr("destination_service_namespace=\"shop\"} 1\n"));
  // Nothing was asked for a while: neither even nor uneven.
  EXPECT_THAT(metrics.exposition(at(183)), HasSubstr("destination_service_namespace=\"shop\"} 1\n"));
  EXPECT_THAT(metrics.exposition(at(244)), Not(HasSubstr("weir_endpoint_imbalance{")));
}

}  // namespace
}  // namespace weir::telemetry
