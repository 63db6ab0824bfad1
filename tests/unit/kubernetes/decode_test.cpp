#include "kubernetes/decode.h"

#include <gtest/gtest.h>

#include <set>

#include "kubernetes/findings.h"
#include "manifests.h"

namespace weir::kubernetes {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Decode, ReadsAService) {
  SourceContents contents = read_manifest(R"(
apiVersion: v1
kind: Service
metadata: {name: s, namespace: ns, labels: {a: b}, annotations: {c: d, weir.dev/detect: "off"}}
spec:
  type: NodePort
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  selector: {app: x}
  publishNotReadyAddresses: true
  internalTrafficPolicy: Local
  sessionAffinity: ClientIP
  trafficDistribution: PreferClose
  ports:
  - {name: grpc, port: 50051, targetPort: grpc, appProtocol: grpc}
  -
    name: dns
    port: 53
    targetPort: 5353
    protocol: UDP
)",
                                          "f.yaml");
  ASSERT_EQ(contents.objects.size(), 1u) << testing::PrintToString(contents);
  EXPECT_TRUE(contents.findings.empty()) << testing::PrintToString(contents);
  const auto& service = std::get<Service>(contents.objects[0]);
  EXPECT_EQ(key_of(contents.objects[0]).to_string(), "Service ns/s");
  EXPECT_EQ(service.type, ServiceType::node_port);
  EXPECT_FALSE(service.headless);
  ASSERT_EQ(service.cluster_ips.size(), 2u);
  EXPECT_EQ(service.cluster_ips[1].to_string(), "fd00::1");
  EXPECT_THAT(service.ip_families, ElementsAre(AddressFamily::ipv4, AddressFamily::ipv6));
  EXPECT_EQ(service.selector.at("app"), "x");
  EXPECT_TRUE(service.publish_not_ready_addresses);
  EXPECT_TRUE(service.internal_traffic_policy_local);
  EXPECT_EQ(service.session_affinity, std::chrono::hours(3));
  EXPECT_EQ(service.traffic_distribution, "PreferClose");
  ASSERT_EQ(service.ports.size(), 2u);
  EXPECT_EQ(service.ports[0], (ServicePort{"grpc", 50051, "TCP", "grpc", "grpc", 16}));
  EXPECT_EQ(service.ports[1], (ServicePort{"dns", 53, "UDP", std::nullopt, "5353", 18}));
  EXPECT_EQ(service.metadata.labels.at("a"), "b");
  EXPECT_EQ(service.metadata.annotations, (Labels{{"weir.dev/detect", "off"}})) << "nobody reads others";
  EXPECT_EQ(service.metadata.origin, (Origin{"f.yaml", 2}));
}

TEST(Decode, ReadsAnEndpointSlice) {
  SourceContents contents = read_manifest(R"({
 "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
 "metadata": {"name": "s-abc", "namespace": "ns", "labels": {"kubernetes.io/service-name": "s"}},
 "addressType": "IPv4",
 "endpoints": [
  {"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z", "targetRef": {"kind": "Pod", "name": "p"},
   "hints": {"forZones": [{"name": "z"}]}},
  {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
  {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
  {"addresses": ["10.0.0.4"], "conditions": {"ready": null, "serving": null}}],
 "ports": [{"name": "grpc", "port": 50051, "protocol": "TCP", "appProtocol": "grpc"}, {"port": null}]})",
                                          "f.json");
  ASSERT_EQ(contents.objects.size(), 1u) << testing::PrintToString(contents);
  const auto& slice = std::get<EndpointSlice>(contents.objects[0]);
  EXPECT_EQ(slice.service, "s");
  ASSERT_EQ(slice.endpoints.size(), 4u);
  EXPECT_EQ(slice.endpoints[0].pod, "p");
  EXPECT_EQ(slice.endpoints[0].node_name, "n1");
  EXPECT_THAT(slice.endpoints[0].zone_hints, ElementsAre("z"));
  auto conditions = [&](size_t i) {
    const SliceEndpoint& e = slice.endpoints[i];
    return std::string(e.ready ? "R" : "-") + (e.serving ? "S" : "-") + (e.terminating ? "T" : "-");
  };
  EXPECT_EQ(conditions(0), "RS-") << "nil means ready";
  EXPECT_EQ(conditions(1), "---") << "serving defers to ready";
  EXPECT_EQ(conditions(2), "-ST");
  EXPECT_EQ(conditions(3), "RS-");
  ASSERT_EQ(slice.ports.size(), 2u);
  EXPECT_EQ(slice.ports[0], (SlicePort{"grpc", 50051, "TCP", "grpc"}));
  EXPECT_EQ(slice.ports[1].port, std::nullopt);
}

TEST(Decode, ReadsAPodAndANamespace) {
  SourceContents contents = read_manifest(R"(
apiVersion: v1
kind: Pod
metadata:
  name: p
  uid: 0a1b2c3d-0000-4000-8000-000000000000
  labels: {weir.dev/dataplane: enabled}
  deletionTimestamp: "2026-01-01T00:00:00Z"
spec:
  nodeName: n1
  hostNetwork: false
  serviceAccountName: sa
  runtimeClassName: kata
  containers: [{name: app, image: x}]
  initContainers: [{name: istio-proxy, restartPolicy: Always}]
status:
  phase: Running
  podIP: 10.0.0.7
  podIPs: [{ip: 10.0.0.7}, {ip: "fd00::7"}]
  conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "True"}]
---
{apiVersion: v1, kind: Namespace, metadata: {name: ns, labels: {weir.dev/dataplane: observe}}}
)",
                                          "f.yaml");
  ASSERT_EQ(contents.objects.size(), 2u) << testing::PrintToString(contents);
  const auto& pod = std::get<Pod>(contents.objects[0]);
  EXPECT_EQ(key_of(contents.objects[0]).to_string(), "Pod default/p");
  EXPECT_TRUE(pod.metadata.deleting);
  EXPECT_EQ(pod.metadata.uid, "0a1b2c3d-0000-4000-8000-000000000000");
  EXPECT_EQ(pod.node_name, "n1");
  EXPECT_EQ(pod.service_account, "sa");
  EXPECT_EQ(pod.runtime_class, "kata");
  EXPECT_THAT(pod.containers, ElementsAre("app", "istio-proxy"));
  ASSERT_EQ(pod.ips.size(), 2u);
  EXPECT_EQ(pod.phase, PodPhase::running);
  EXPECT_TRUE(pod.ready);
  EXPECT_EQ(key_of(contents.objects[1]).to_string(), "Namespace ns");
}

// What is wrong, and what must be said about it.
struct Bad {
  const char* name;
  const char* text;
  const char* code;
  int line;
  const char* object;
  const char* message;
};

#define SERVICE "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n"
#define SLICE "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: e}\n"
#define POD "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"

const Bad kBad[] = {
    {"port as text", SERVICE "spec:\n  ports:\n  - port: '80'\n", "WEIR0101", 6, "Service default/s",
     "spec.ports[0].port is a string where an integer is expected"},
    {"port as float", SERVICE "spec:\n  ports:\n  - port: 80.5\n", "WEIR0101", 6, "Service default/s", "a number"},
    {"port zero", SERVICE "spec:\n  ports:\n  - {port: 0}\n", "WEIR0103", 6, "Service default/s",
     "is 0, which is no port"},
    {"port too large", SERVICE "spec:\n  ports:\n  - {port: 65536}\n", "WEIR0103", 6, "Service default/s", "65536"},
    {"port negative", SERVICE "spec:\n  ports:\n  - {port: -1}\n", "WEIR0103", 6, "Service default/s", "-1"},
    {"port huge", SERVICE "spec:\n  ports:\n  - {port: 18446744073709551615}\n", "WEIR0103", 6, "Service default/s",
     "1844"},
    {"no port number", SERVICE "spec:\n  ports:\n  - {name: x}\n", "WEIR0102", 6, "Service default/s",
     "spec.ports[0].port is missing"},
    {"no ports", SERVICE "spec:\n  selector: {a: b}\n", "WEIR0102", 5, "Service default/s", "spec.ports is missing"},
    {"empty ports", SERVICE "spec:\n  ports: []\n", "WEIR0102", 5, "Service default/s", "spec.ports is missing"},
    {"ports a mapping", SERVICE "spec:\n  ports: {port: 80}\n", "WEIR0101", 5, "Service default/s",
     "spec.ports is a mapping where a list is expected"},
    {"ports of numbers", SERVICE "spec:\n  ports:\n  - 80\n", "WEIR0101", 6, "Service default/s",
     "spec.ports[0] is an integer where a mapping is expected"},
    {"no spec", SERVICE, "WEIR0102", 1, "Service default/s", "spec is missing"},
    {"unnamed second port", SERVICE "spec:\n  ports:\n  - {port: 80, name: a}\n  - {port: 81}\n", "WEIR0102", 7,
     "Service default/s", "spec.ports[1].name is missing"},
    {"same name", SERVICE "spec:\n  ports:\n  - {port: 80, name: a}\n  - {port: 81, name: a}\n", "WEIR0103", 7,
     "Service default/s", "another port"},
    {"same number", SERVICE "spec:\n  ports:\n  - {port: 80, name: a}\n  - {port: 80, name: b}\n", "WEIR0103", 7,
     "Service default/s", "another port"},
    {"protocol", SERVICE "spec:\n  ports:\n  - {port: 80, protocol: tcp}\n", "WEIR0103", 6, "Service default/s",
     "unknown value 'tcp'"},
    {"type", SERVICE "spec:\n  type: Clusterip\n  ports:\n  - {port: 80}\n", "WEIR0103", 5, "Service default/s",
     "Clusterip"},
    {"clusterIP", SERVICE "spec:\n  clusterIP: 10.0.0\n  ports:\n  - {port: 80}\n", "WEIR0104", 5, "Service default/s",
     "'10.0.0', which is no IP address"},
    {"clusterIP loopback", SERVICE "spec:\n  clusterIP: 127.0.0.1\n  ports:\n  - {port: 80}\n", "WEIR0104", 5,
     "Service default/s", "loopback"},
    {"clusterIPs differ", SERVICE "spec:\n  clusterIP: 10.0.0.1\n  clusterIPs: [10.0.0.2]\n  ports:\n  - {port: 80}\n",
     "WEIR0103", 6, "Service default/s", "must begin"},
    {"None and address", SERVICE "spec:\n  clusterIPs: [None, 10.0.0.2]\n  ports:\n  - {port: 80}\n", "WEIR0103", 5,
     "Service default/s", "None beside"},
    {"label number",
     "apiVersion: v1\nkind: Service\nmetadata:\n  name: s\n  labels:\n    v: 1\nspec: {ports: [{port: 80}]}\n",
     "WEIR0101", 6, "Service default/s", "metadata.labels.v is an integer where a string"},
    {"boolean", SERVICE "spec:\n  publishNotReadyAddresses: 'true'\n  ports: [{port: 80}]\n", "WEIR0101", 5,
     "Service default/s", "a boolean"},
    {"uid", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  uid: ../x\n", "WEIR0103", 5, "Pod default/p", "no UID"},
    {"apiVersion of slice", "apiVersion: v1\nkind: EndpointSlice\nmetadata: {name: e}\n", "WEIR0106", 1,
     "EndpointSlice default/e", "'v1', which has no EndpointSlice"},
    {"apiVersion of Service", "apiVersion: v2\nkind: Service\nmetadata: {name: s}\n", "WEIR0106", 1,
     "Service default/s", "'v2'"},
    {"no apiVersion", "kind: Service\nmetadata: {name: s}\n", "WEIR0106", 1, "Service default/s", "''"},
    {"address", SLICE "addressType: IPv4\nendpoints:\n- addresses: [10.0.0.1]\n- addresses: [10.0.0.300]\n", "WEIR0104",
     7, "EndpointSlice default/e", "endpoints[1].addresses has '10.0.0.300', which is no IP address"},
    {"address family", SLICE "addressType: IPv6\nendpoints:\n- addresses: [10.0.0.1]\n", "WEIR0104", 6,
     "EndpointSlice default/e", "addressType"},
    {"no addresses", SLICE "addressType: IPv4\nendpoints:\n- conditions: {ready: true}\n", "WEIR0102", 6,
     "EndpointSlice default/e", "addresses is missing"},
    {"no addressType", SLICE "endpoints: []\n", "WEIR0102", 1, "EndpointSlice default/e", "addressType is missing"},
    {"condition", SLICE "addressType: IPv4\nendpoints:\n- addresses: [10.0.0.1]\n  conditions: {ready: 'true'}\n",
     "WEIR0101", 7, "EndpointSlice default/e", "endpoints[0].conditions.ready is a string"},
    {"pod address", POD "status:\n  podIP: nowhere\n", "WEIR0104", 5, "Pod default/p", "status.podIP has 'nowhere'"},
    {"pod container", POD "spec:\n  containers:\n  - name: 5\n", "WEIR0101", 6, "Pod default/p",
     "spec.containers[0].name is an integer"},
};

TEST(Decode, RejectsABadObjectByName) {
  for (const Bad& bad : kBad) {
    SourceContents contents = read_manifest(bad.text, "f.yaml");
    SCOPED_TRACE(std::string(bad.name) + ": " + testing::PrintToString(contents));
    EXPECT_TRUE(contents.objects.empty());
    EXPECT_TRUE(contents.complete);
    ASSERT_EQ(contents.rejected.size(), 1u);
    EXPECT_EQ(contents.rejected[0].to_string(), bad.object);
    ASSERT_FALSE(contents.findings.empty());
    const config::Finding& finding = contents.findings[0];
    EXPECT_EQ(finding.code, bad.code);
    EXPECT_EQ(finding.severity, config::Severity::error);
    EXPECT_EQ(finding.file, "f.yaml");
    EXPECT_EQ(finding.line, bad.line);
    EXPECT_EQ(finding.object, bad.object);
    EXPECT_THAT(finding.message, HasSubstr(bad.message));
  }
}

TEST(Decode, AnObjectWithoutAUsableNameMakesItsFileIncomplete) {
  const std::pair<const char*, const char*> kCases[] = {
      {"kind: Service\napiVersion: v1\n", "WEIR0102"},
      {"kind: Service\napiVersion: v1\nmetadata: {}\n", "WEIR0102"},
      {"kind: Service\napiVersion: v1\nmetadata: {name: 5}\n", "WEIR0101"},
      {"kind: Service\napiVersion: v1\nmetadata: x\n", "WEIR0101"},
      {"kind: Service\napiVersion: v1\nmetadata: {name: A/../b}\n", "WEIR0103"},
      {"kind: Service\napiVersion: v1\nmetadata: {name: a.b}\n", "WEIR0103"},
      {"kind: Pod\napiVersion: v1\nmetadata: {name: \"a\\nb\"}\n", "WEIR0103"},
      {"kind: Pod\napiVersion: v1\nmetadata: {name: p, namespace: ../n}\n", "WEIR0103"},
      {"kind: 5\napiVersion: v1\n", "WEIR0101"},
      {"apiVersion: v1\nmetadata: {name: s}\n", "WEIR0102"},
      {"replicas: 3\n", "WEIR0007"},
  };
  for (const auto& [text, code] : kCases) {
    SourceContents contents = read_manifest(text, "f.yaml");
    EXPECT_FALSE(contents.complete) << text;
    EXPECT_EQ(codes(contents.findings), code) << text << testing::PrintToString(contents);
    EXPECT_TRUE(contents.rejected.empty()) << text;
  }
}

TEST(Decode, PortsAreOptionalWhereNothingHasAnAddress) {
  for (const char* spec : {"{clusterIP: None}", "{type: ExternalName, externalName: x.example.com}"}) {
    SourceContents contents = read_manifest(std::string(SERVICE "spec: ") + spec, "f.yaml");
    EXPECT_EQ(contents.objects.size(), 1u) << spec << testing::PrintToString(contents);
  }
}

TEST(Decode, TellsAboutKindsOfTheMesh) {
  struct Case {
    const char* text;
    const char* codes;
    config::Severity severity;
    const char* message;
  };
  const Case kCases[] = {
      {"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: v}\n", "WEIR0201",
       config::Severity::warning, "nothing listens"},
      {"apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: v}\n", "WEIR0202",
       config::Severity::error, "NOT enforced"},
      {"apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: v}\n", "WEIR0202",
       config::Severity::error, "NOT enforced"},
      {"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: v}\nspec: {mtls: {mode: "
       "STRICT}}\n",
       "WEIR0202", config::Severity::error, "NOT enforced"},
      {"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: v}\nspec: {portLevelMtls: {80: "
       "{mode: STRICT}}}\n",
       "WEIR0202", config::Severity::error, "NOT enforced"},
      {"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: v}\nspec: {mtls: {mode: "
       "PERMISSIVE}}\n",
       "WEIR0203", config::Severity::info, "ignored"},
      {"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: v}\n", "WEIR0203",
       config::Severity::info, "ignored"},
      {"apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: v}\n", "WEIR0203",
       config::Severity::info, "ignored"},
      {"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: v}\n", "WEIR0203", config::Severity::info,
       "ignored"},
      {"apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: v}\n", "WEIR0203",
       config::Severity::info, "ignored"},
  };
  for (const Case& c : kCases) {
    SourceContents contents = read_manifest(c.text, "f.yaml");
    EXPECT_TRUE(contents.complete);
    ASSERT_EQ(codes(contents.findings), c.codes) << c.text;
    EXPECT_EQ(contents.findings[0].severity, c.severity);
    EXPECT_THAT(contents.findings[0].message, HasSubstr(c.message));
    EXPECT_THAT(contents.findings[0].object, HasSubstr(" default/v"));
    EXPECT_EQ(contents.findings[0].line, 1);
  }
  // Nobody wants to hear of these.
  for (const char* text : {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n",
                           "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n",
                           "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: s}\n",
                           "apiVersion: v1\nkind: Endpoints\nmetadata: {name: s}\n",
                           "apiVersion: kustomize.config.k8s.io/v1\nkind: X\n"}) {
    EXPECT_EQ(codes(read_manifest(text, "f.yaml").findings), "") << text;
  }
}

TEST(Decode, LooksAtHostileShapesOfOtherKinds) {
  for (const char* spec : {"5", "[a]", "{mtls: STRICT}", "{mtls: {mode: 5}}", "{portLevelMtls: [1]}", "null",
                           "{http: [{route: [{destination: {host: 5}}]}]}"}) {
    for (const char* kind : {"PeerAuthentication", "VirtualService"}) {
      std::string group = kind[0] == 'P' ? "security" : "networking";
      SourceContents contents = read_manifest(
          "apiVersion: " + group + ".istio.io/v1\nkind: " + kind + "\nmetadata: [x]\nspec: " + spec + "\n", "f.yaml");
      EXPECT_EQ(contents.findings.size(), 1u) << spec;
    }
  }
}

TEST(Findings, AreCutAndEscaped) {
  EXPECT_EQ(shown("a\n\x1b[31m"), "'a\\x0a\\x1b[31m'");
  std::string cut = shown(std::string(119, 'x') + "\xc3\xa4" + std::string(50, 'y'));
  EXPECT_EQ(cut, "'" + std::string(119, 'x') + "...'");
  SourceContents contents = read_manifest(
      std::string(SERVICE "spec: {ports: [{port: 80, protocol: \"") + std::string(100000, 'z') + "\"}]}", "f");
  ASSERT_EQ(contents.findings.size(), 1u);
  EXPECT_LT(contents.findings[0].message.size(), 400u);
}

TEST(Findings, ThereAreNotTooManyOfOneObject) {
  std::string text = SERVICE "spec:\n  ports:\n";
  for (int i = 0; i < 1000; ++i) text += "  - {port: x}\n";
  SourceContents contents = read_manifest(text, "f.yaml");
  EXPECT_EQ(contents.rejected.size(), 1u);
  ASSERT_EQ(contents.findings.size(), 11u);
  const config::Finding& rest = contents.findings[10];
  EXPECT_EQ(rest.code, "WEIR0008");
  EXPECT_EQ(rest.severity, config::Severity::error) << "as those that are not listed";
  EXPECT_EQ(rest.object, contents.findings[0].object);
  EXPECT_THAT(rest.message, HasSubstr("1990 more"));
}

TEST(Findings, ThoseBeyondTheLimitAreCounted) {
  const auto made = [](Code code) { return finding(code, {"f", 1}, "o", "m"); };
  for (const size_t count : {size_t{0}, size_t{2}, size_t{3}, size_t{5}}) {
    FindingList list(3);
    for (size_t i = 0; i < count; ++i) list.add(made(i == 3 ? Code::defined_twice : Code::unused_slice));
    const auto taken = list.take({"g", 7}, "p");
    ASSERT_EQ(taken.size(), std::min<size_t>(count, 4)) << count;
    EXPECT_TRUE(list.take({}, {}).empty());
    if (count < 4) continue;
    EXPECT_EQ(taken[3].object, "p");
    EXPECT_EQ(taken[3].line, 7);
    EXPECT_EQ(taken[3].severity, config::Severity::warning);
    EXPECT_THAT(taken[3].message, HasSubstr("2 more"));
  }
}

TEST(Findings, CodesAreUnique) {
  std::set<std::string_view> ids;
  for (const CodeMeaning& meaning : kCodes) EXPECT_TRUE(ids.insert(meaning.id).second) << meaning.id;
}

}  // namespace
}  // namespace weir::kubernetes
