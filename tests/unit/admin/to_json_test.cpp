#include "admin/to_json.h"

#include <gtest/gtest.h>

#include "fixture.h"
#include "weir/admin_api.h"

namespace weir::admin {
namespace {

using nlohmann::json;

TEST(ToJson, ShowsAService) {
  const json dump = to_json(*small_snapshot());
  EXPECT_EQ(dump["revision"], 7);
  ASSERT_EQ(dump["services"].size(), 2u);
  EXPECT_EQ(dump["services"][0], json::parse(R"({
    "namespace": "default", "name": "greeter", "fqdn": "greeter.default.svc.cluster.local",
    "vips": ["10.96.0.10"], "by_endpoint": false, "labels": {},
    "ports": [
      {"name": "grpc", "port": 50051, "protocol": "grpc", "mode": "l7", "diverted_mode": "l7",
       "reason": "port name grpc",
       "cluster": {"name": "outbound|50051||greeter.default.svc.cluster.local", "load_balancing": "LEAST_REQUEST",
                   "connect_timeout_ms": 10000,
                   "endpoints": [{"address": "10.0.0.1:50051", "pod": "greeter-1", "node": "node-a"},
                                 {"address": "[fd00::2]:50051", "pod": "", "node": ""}]}},
      {"name": "", "port": 443, "protocol": "tls", "mode": "none", "diverted_mode": "none", "reason": "",
       "cluster": null}]})"));
}

TEST(ToJson, SaysWhichPortsAreNotWhatTheyDeclare) {
  json dump = to_json(*small_snapshot());
  const json before = dump;
  add_misdeclared(dump, {});
  EXPECT_EQ(dump, before);
  add_misdeclared(dump, {{{"default", "greeter", "50051"}, 14}, {{"default", "gone", "50051"}, 3}});
  EXPECT_EQ(dump["services"][0]["ports"][0]["misdeclared_connections"], 14);
  EXPECT_FALSE(dump["services"][0]["ports"][1].contains("misdeclared_connections"));
  EXPECT_EQ(dump["services"][1], before["services"][1]);
}

TEST(ToJson, ShowsPodsAndFindings) {
  const json dump = to_json(*small_snapshot());
  EXPECT_EQ(dump["pods"], json::parse(R"([{
    "namespace": "default", "name": "client", "uid": "uid-1", "node": "", "service_account": "", "ips": ["10.0.1.5"],
    "labels": {}, "dataplane": "enabled", "refusal": "has an istio-proxy container", "excluded_ports": [9090],
    "fail_closed": false, "redirect": true}])"));
  ASSERT_EQ(dump["findings"].size(), 2u);
  EXPECT_EQ(dump["findings"][0], json::parse(R"({"code": "WEIR0101", "severity": "warning", "file": "a.yaml", "line": 3,
    "object": "Service default/greeter", "message": "is odd", "fix": "fix"})"));
}

TEST(ToJson, MayBeOfOneService) {
  const json dump = to_json(*small_snapshot(), "default/greeter");
  ASSERT_EQ(dump["services"].size(), 1u);
  EXPECT_EQ(dump["services"][0]["name"], "greeter");
  EXPECT_TRUE(dump["pods"].empty());
  ASSERT_EQ(dump["findings"].size(), 1u);  // not those of default/other-greeter
  EXPECT_EQ(dump["findings"][0]["code"], "WEIR0101");
  EXPECT_TRUE(to_json(*small_snapshot(), "default/none")["services"].empty());
}

TEST(ToJson, ShowsEnrolment) {
  interception::PodStatus enrolled, failed;
  enrolled.pod = failed.pod = small_snapshot()->pods[0];
  enrolled.state = interception::PodState::enrolled;
  enrolled.netns_cookie = 4242;
  enrolled.port = 61000;
  enrolled.worker = 1;
  enrolled.latency = std::chrono::microseconds(1500);
  failed.state = interception::PodState::failed;
  failed.reason = "no free port";
  const json pods = to_json(std::vector{enrolled, failed, interception::PodStatus{}})["pods"];
  ASSERT_EQ(pods.size(), 2u);
  EXPECT_EQ(pods[0]["state"], "enrolled");
  EXPECT_EQ(pods[0]["netns_cookie"], 4242);
  EXPECT_EQ(pods[0]["listener_port"], 61000);
  EXPECT_EQ(pods[0]["worker"], 1);
  EXPECT_EQ(pods[0]["enrolment_ms"], 1.5);
  EXPECT_EQ(pods[1]["state"], "failed");
  EXPECT_EQ(pods[1]["reason"], "no free port");
}

TEST(ToJson, ShowsStats) {
  const auto now = base::Instant(std::chrono::seconds(100));
  AgentStats stats;
  stats.version = "0.1.0";
  stats.started = now - std::chrono::seconds(60);
  stats.configured = now - std::chrono::milliseconds(2500);
  stats.workers = {{0, 2, 3, 4, 5, 6, 7}};
  stats.sources = {{"manifests /m", "watching"}};
  BpfCounters counters{};
  counters[WEIR_STAT_DIVERTED] = 11;
  const auto snapshot = small_snapshot();
  const json out = to_json(stats, {true}, snapshot.get(), counters, now);
  EXPECT_EQ(out["uptime_seconds"], 60.0);
  EXPECT_EQ(out["config"]["revision"], 7);
  EXPECT_EQ(out["config"]["age_seconds"], 2.5);
  EXPECT_EQ(out["config"]["findings"], json::parse(R"({"error": 0, "warning": 1, "info": 1})"));
  EXPECT_EQ(out["workers"][0]["active_rpcs"], 6);
  EXPECT_EQ(out["bpf"]["diverted"], 11);
  EXPECT_EQ(out["bpf"].size(), size_t{WEIR_STAT_MAX});
  EXPECT_EQ(out["time_ns"], 100'000'000'000);

  const json early = to_json(stats, {false, "starting"}, nullptr, base::Error{"no maps"}, now);
  EXPECT_TRUE(early["config"].is_null());
  EXPECT_EQ(early["bpf"]["error"], "no maps");
  EXPECT_EQ(early["not_ready_reason"], "starting");
}

}  // namespace
}  // namespace weir::admin
