// What weirctl prints, from JSON as the agent and the maps give it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weirctl/maps_json.h"
#include "weirctl/names.h"
#include "weirctl/output.h"
#include "weirctl/table.h"
#include "weirctl/views.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

TEST(Table, AlignsAndHidesWideColumns) {
  Table table({{"NAME"}, {"NODE", true}, {"N"}});
  table.add({"gr\xc3\xbc\xc3\x9f", "a", 1});  // two-byte letters take one column
  table.add({"", "b", "x"});
  EXPECT_EQ(table.render(false, false),
            "NAME   N\n"
            "gr\xc3\xbc\xc3\x9f   1\n"
            "-      x\n");
  EXPECT_EQ(table.render(true, false),
            "NAME   NODE   N\n"
            "gr\xc3\xbc\xc3\x9f   a      1\n"
            "-      b      x\n");
}

TEST(Table, ColoursOnlyWhenAsked) {
  Table table({{"A"}, {"B"}});
  table.add({Cell("on", Tone::warn), Cell("bad", Tone::bad)});
  EXPECT_EQ(table.render(false, true), "A    B\n\x1b[33mon\x1b[0m   \x1b[31mbad\x1b[0m\n");
  EXPECT_THAT(table.render(false, false), Not(HasSubstr("\x1b")));
}

TEST(Table, ControlCharactersDoNotReachTheTerminal) {
  Table table({{"A"}});
  table.add({"x\x1b[2J\ny"});
  EXPECT_EQ(table.render(false, false), "A\nx?[2J?y\n");
}

TEST(HumanDuration, HasTwoUnits) {
  EXPECT_EQ(human_duration(-1), "0ms");
  EXPECT_EQ(human_duration(0.35), "350ms");
  EXPECT_EQ(human_duration(59.9), "59s");
  EXPECT_EQ(human_duration(250), "4m10s");
  EXPECT_EQ(human_duration(7200), "2h");
  EXPECT_EQ(human_duration(7200 + 180), "2h3m");
  EXPECT_EQ(human_duration(86400 * 5 + 7200), "5d2h");
}

TEST(Yaml, KeepsTypes) {
  const json value = {{"a", {1, -2, 2.5}}, {"b", {{"c", nullptr}, {"on", "on"}}}, {"e", json::array()}, {"t", true}};
  EXPECT_EQ(to_yaml(value), "a:\n  - 1\n  - -2\n  - 2.5\nb:\n  c: ~\n  on: \"on\"\ne: []\nt: true\n");
}

const json kPods = json::parse(R"([
  {"namespace": "default", "name": "client"}, {"namespace": "shop", "name": "client"},
  {"namespace": "shop", "name": "web.v1"}])");

TEST(Names, AreFoundInEachForm) {
  for (const char* name : {"client.shop", "shop/client"}) {
    const auto found = find_one(kPods, name, "", "pod");
    ASSERT_TRUE(found.ok()) << name;
    EXPECT_EQ(qualified_name(found.value()), "shop/client");
  }
  EXPECT_EQ(qualified_name(find_one(kPods, "client", "default", "pod").value()), "default/client");
  EXPECT_EQ(qualified_name(find_one(kPods, "web.v1", "", "pod").value()), "shop/web.v1");
  EXPECT_EQ(qualified_name(find_one(kPods, "web.v1.shop", "", "pod").value()), "shop/web.v1");
}

TEST(Names, ThatAreAmbiguousOrUnknownAreExplained) {
  EXPECT_EQ(find_one(kPods, "client", "", "pod").error().message,
            "pod client could be default/client or shop/client: say which with -n");
  EXPECT_EQ(find_one(kPods, "nobody", "shop", "pod").error().message,
            "the agent knows no pod nobody in namespace shop; it knows shop/client, shop/web.v1");
  EXPECT_EQ(find_one(json::array(), "x", "", "pod").error().message, "the agent knows no pod x");
}

TEST(Names, OfServicePorts) {
  EXPECT_EQ(parse_service_port("greeter.shop:80")->service, "greeter.shop");
  EXPECT_EQ(parse_service_port("[fd00::1]:80")->service, "fd00::1");
  EXPECT_EQ(parse_service_port("10.0.0.1:65535")->port, 65535);
  for (const char* bad : {"", "greeter", ":80", "greeter:", "greeter:0", "greeter:65536", "greeter:8x", "greeter:-1"}) {
    EXPECT_FALSE(parse_service_port(bad)) << bad;
  }
}

TEST(Status, IsAFewLines) {
  json before = json::parse(R"({"time_ns": 1000000000, "workers": [{"index": 0, "rpcs_total": 100}]})");
  json now = json::parse(R"({"version": "0.1.0", "node": "node-a", "pid": 12, "uptime_seconds": 3723.0,
    "time_ns": 3000000000, "ready": true, "not_ready_reason": "", "draining": false,
    "config": {"revision": 7, "age_seconds": 3.2, "services": 12, "pods": 4,
               "findings": {"error": 0, "warning": 1, "info": 0}},
    "sources": [{"name": "manifests /m", "state": "watching"}], "pods": {"enrolled": 3, "failed": 1},
    "workers": [{"index": 0, "pods": 3, "downstream_connections": 5, "upstream_connections": 9, "tcp_relays": 1,
                 "active_rpcs": 2, "rpcs_total": 1100}, {"index": 1, "rpcs_total": 5}]})");
  add_rates(before, now);
  EXPECT_EQ(render_status(now, false, false),
            "Agent:    0.1.0 on node-a, pid 12, up 1h2m, ready\n"
            "Config:   revision 7, 3s old, 12 services, 4 pods, findings: 1 warning\n"
            "Source:   manifests /m: watching\n"
            "Pods:     3 enrolled, 1 failed\n"
            "\n"
            "WORKER   PODS   DOWNSTREAM   UPSTREAM   TCP RELAYS   ACTIVE RPCS   RPS\n"
            "0        3      5            9          1            2             500\n"
            "1        -      -            -          -            -             0\n");
  now["redirect"] = {{"state", "off"}, {"reason", "Linux 6.1.90 is older than 6.1.142"}};
  EXPECT_THAT(render_status(now, false, false), HasSubstr("\nRedirect: off, Linux 6.1.90 is older than 6.1.142\n"));
  EXPECT_THAT(render_status(now, false, false), testing::Not(HasSubstr("Unmanaged")));
  now["unmanaged_connections"] = 3;
  EXPECT_THAT(render_status(now, false, false), HasSubstr("\nUnmanaged: 3 (connections that go past weir"));
  now["ready"] = false;
  now["not_ready_reason"] = "no configuration";
  now["config"] = nullptr;
  EXPECT_THAT(render_status(now, false, false), HasSubstr("not ready: no configuration\nConfig:   none yet\n"));
}

TEST(Status, ARestartedAgentHasNoNegativeRate) {
  json before = json::parse(R"({"time_ns": 9000000000, "workers": [{"index": 0, "rpcs_total": 100}]})");
  json now = json::parse(R"({"time_ns": 9000000000, "workers": [{"index": 0, "rpcs_total": 5}]})");
  add_rates(before, now);
  EXPECT_EQ(now["workers"][0]["rps"], 0.0);
}

TEST(Verdicts, AreShownWithTheirTimeAndSamples) {
  const json rows = json::parse(R"([{"pod": "default/client", "address": "10.96.0.9:5432", "service": "default/db",
    "expires_in_seconds": 42.0, "connections": 7, "sample_every": 64, "netns_cookie": 12},
    {"pod": "", "address": "10.96.0.9:6379", "service": "", "expires_in_seconds": 1.0, "connections": 0,
     "sample_every": 0, "netns_cookie": 13}])");
  EXPECT_EQ(render_verdicts(rows, false, false),
            "POD              ADDRESS          SERVICE      EXPIRES IN   CONNECTIONS   SAMPLED\n"
            "default/client   10.96.0.9:5432   default/db   42s          7             1 in 64\n"
            "-                10.96.0.9:6379   -            1s           0             none\n");
}

TEST(BpfTables, ShowRows) {
  weir_service service{};
  service.mode = WEIR_MODE_L7;
  service.generation = 9;
  json row = to_json(base::SocketAddress{*base::IpAddress::parse("10.96.0.10"), 50051}, service, true);
  row["service"] = "default/greeter";
  EXPECT_EQ(render_services(json::array({row}), true, false),
            "ADDRESS            MODE   BRAKE   SERVICE           GENERATION\n"
            "10.96.0.10:50051   l7     on      default/greeter   9\n");

  weir_pod pod{};
  pod.pod_ip4[0] = 10;
  pod.pod_ip4[3] = 5;
  pod.listener_port_be = htons(61000);
  pod.excluded_ports_be[0] = htons(9090);
  pod.flags = WEIR_POD_OBSERVE | WEIR_POD_FAIL_CLOSED | WEIR_POD_REDIRECT;
  pod.worker = 1;
  json alive = to_json(4242, pod, false), hung = to_json(4343, pod, false);
  alive["heartbeat_age_seconds"] = 0.125;
  hung["heartbeat_age_seconds"] = 61.5;
  EXPECT_EQ(
      render_pods(json::array({alive, hung, to_json(4444, pod, false)}), true, false),
      "NETNS   POD   IP         LISTENER   WORKER   HEARTBEAT   STATE     EXCLUDED PORTS   FAIL CLOSED   REDIRECT   "
      "GENERATION\n"
      "4242    -     10.0.0.5   61000      1        125ms       observe   9090             yes           yes        0\n"
      "4343    -     10.0.0.5   61000      1        1m1s        observe   9090             yes           yes        0\n"
      "4444    -     10.0.0.5   61000      1        none        observe   9090             yes           yes        "
      "0\n");

  const json flows = json::parse(R"([{"source": "10.0.0.5:40000", "destination": "10.96.0.10:50051", "mode": "l7",
    "redirect": true, "age_seconds": 61.5, "netns_cookie": 4242, "pod": "", "service": ""}])");
  EXPECT_EQ(render_flows(flows, false, false),
            "SOURCE           DESTINATION        MODE   PATH       AGE    POD   SERVICE\n"
            "10.0.0.5:40000   10.96.0.10:50051   l7     redirect   1m1s   -     -\n");
}

TEST(Brakes, AreListed) {
  const json brakes = json::parse(R"({"node": false, "pods": [{"netns_cookie": 7, "ips": []}],
    "services": [{"address": "10.96.0.10:80"}]})");
  EXPECT_EQ(render_brakes(brakes, false, false),
            "SCOPE     NAME            BRAKE\n"
            "node      -               off\n"
            "pod       7               on\n"
            "service   10.96.0.10:80   on\n");
}

TEST(LogRecord, IsALine) {
  const json record = json::parse(R"({"sequence": 4, "start_time": "2020-11-25T21:24:49.007Z", "method": "POST",
    "path": "/a.B/C\u001b", "response_code": 200, "response_flags": "UF", "response_code_details": "x",
    "upstream_transport_failure_reason": "connect: refused", "duration": 7, "upstream_host": "10.0.0.1:50051",
    "grpc_status": "Unavailable", "source_namespace": "default", "source_pod": "client",
    "destination_service": "greeter.default.svc.cluster.local", "destination_pod": "greeter-1",
    "upstream_request_attempt_count": 2})");
  EXPECT_EQ(render_log_record(record, false),
            "21:24:49.007  default/client -> greeter-1 (greeter.default.svc.cluster.local)  POST /a.B/C? 200 "
            "grpc=Unavailable UF  7ms (2 attempts)  connect: refused\n");
  const json tcp = json::parse(R"({"start_time": "", "method": null, "response_flags": "-", "duration": 1,
    "destination_pod": null, "upstream_host": null, "source_namespace": "default", "source_pod": "client",
    "destination_service": "db", "grpc_status": null})");
  EXPECT_EQ(render_log_record(tcp, false), "  default/client -> (no endpoint) (db)  TCP  1ms\n");
}

const json kServices = json::parse(R"([{"namespace": "default", "name": "greeter",
  "fqdn": "greeter.default.svc.cluster.local", "vips": ["10.96.0.10"], "labels": {}, "ports": [
    {"name": "grpc", "port": 50051, "protocol": "grpc", "mode": "l7", "diverted_mode": "l7", "reason": "port name grpc",
     "cluster": {"name": "outbound|50051||greeter.default.svc.cluster.local", "load_balancing": "LEAST_REQUEST",
                 "connect_timeout_ms": 10000,
                 "endpoints": [{"address": "10.0.0.1:50051", "pod": "greeter-1", "node": "node-a"}]}},
    {"name": "", "port": 443, "protocol": "tls", "mode": "none", "diverted_mode": "none", "reason": "port name tls",
     "cluster": null}]},
  {"namespace": "default", "name": "other", "fqdn": "other.default.svc.cluster.local", "vips": [], "labels": {},
   "ports": [{"name": "grpc", "port": 50051, "protocol": "grpc", "mode": "l7", "diverted_mode": "l7", "reason": "",
     "cluster": {"name": "outbound|50051||other.default.svc.cluster.local", "load_balancing": "LEAST_REQUEST",
                 "connect_timeout_ms": 250, "endpoints": []}}]}])");

TEST(ProxyConfig, ShowsClusters) {
  EXPECT_EQ(render_clusters(cluster_rows(kServices, "", 0), false, false),
            "SERVICE FQDN                        PORT    SUBSET   MODE   LOAD BALANCING   ENDPOINTS\n"
            "greeter.default.svc.cluster.local   50051   -        l7     LEAST_REQUEST    1\n"
            "other.default.svc.cluster.local     50051   -        l7     LEAST_REQUEST    0\n");
  EXPECT_EQ(cluster_rows(kServices, "greeter.default.svc.cluster.local", 0).size(), 1u);
  EXPECT_EQ(cluster_rows(kServices, "other", 50051).size(), 1u);
  EXPECT_TRUE(cluster_rows(kServices, "", 443).empty());
}

TEST(ProxyConfig, ShowsEndpointsAndListeners) {
  EXPECT_EQ(render_endpoints(endpoint_rows(kServices, "", 0), true, false),
            "ENDPOINT         STATUS    POD         NODE     CLUSTER\n"
            "10.0.0.1:50051   HEALTHY   greeter-1   node-a   outbound|50051||greeter.default.svc.cluster.local\n");
  EXPECT_EQ(render_listeners(listener_rows(kServices, "", 0), false, false),
            "ADDRESS      PORT    PROTOCOL   MODE           DESTINATION\n"
            "10.96.0.10   50051   grpc       l7             outbound|50051||greeter.default.svc.cluster.local\n"
            "10.96.0.10   443     tls        not diverted   -\n");
}

TEST(Describe, AService) {
  json service = kServices[0];
  service["findings"] = json::parse(R"([{"code": "WEIR0101", "severity": "warning", "file": "a.yaml", "line": 3,
    "object": "Service default/greeter", "message": "is odd", "fix": "make it even"}])");
  EXPECT_EQ(render_service_description(service, false, false),
            "Service default/greeter (greeter.default.svc.cluster.local)\n"
            "ClusterIPs: 10.96.0.10\n"
            "Port 50051 (grpc): grpc, every RPC is balanced, because: port name grpc\n"
            "  Cluster outbound|50051||greeter.default.svc.cluster.local, LEAST_REQUEST\n"
            "  ENDPOINT         POD\n"
            "  10.0.0.1:50051   greeter-1\n"
            "Port 443: tls, not diverted, because: port name tls\n"
            "Findings:\n"
            "  warning WEIR0101: is odd (a.yaml:3)\n"
            "    fix: make it even\n");
  service["ports"][0]["misdeclared_connections"] = 14;
  EXPECT_THAT(render_service_description(service, false, false),
              HasSubstr("because: port name grpc\n  Not HTTP/2, and passed as TCP: 14 connections\n"));
  const std::string headless = render_service_description(kServices[1], false, false);
  EXPECT_THAT(headless, HasSubstr("ClusterIPs: none\n"));
  EXPECT_THAT(headless, HasSubstr("No endpoint is ready"));
}

TEST(Describe, APod) {
  const json pod = json::parse(R"({"namespace": "default", "name": "client", "ips": ["10.0.0.5"],
    "dataplane": "enabled", "state": "enrolled", "reason": "", "listener_port": 61000, "worker": 0,
    "enrolment_ms": 4.0, "excluded_ports": [9090], "fail_closed": false})");
  EXPECT_EQ(render_pod_description(pod, false, false),
            "Pod default/client\nIPs: 10.0.0.5\nDataplane: enabled\n"
            "State: enrolled, listener on port 61000, worker 0, 4ms after its sandbox\n"
            "Excluded ports: 9090\nWithout an agent: connections go the plain way\n");
}

TEST(Checks, EndWithWhatToDo) {
  const json checks = json::parse(R"([{"name": "kernel", "result": "ok", "detail": "6.18", "remedy": ""},
    {"name": "bpffs", "result": "error", "detail": "none", "remedy": "mount -t bpf bpf /sys/fs/bpf"}])");
  EXPECT_EQ(render_checks(checks, false, false),
            "CHECK    RESULT   DETAIL\n"
            "kernel   ok       6.18\n"
            "bpffs    error    none\n"
            "\nTo do:\n  bpffs: mount -t bpf bpf /sys/fs/bpf\n");
}

}  // namespace
}  // namespace weir::weirctl
