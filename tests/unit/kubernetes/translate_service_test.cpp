#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using config::Mode;
using config::Protocol;
using testing::ElementsAre;
using testing::HasSubstr;

// One Service `s` on 10.96.0.1:80 with the given further fields of spec.
std::string service(const std::string& more = {}) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports: [{name: grpc, port: 80}]\n" +
         (more.find("clusterIP") == std::string::npos ? "  clusterIP: 10.96.0.1\n" : std::string()) +
         (more.empty() ? "" : "  " + more + "\n");
}

// A slice of `s`, its endpoints in flow style.
std::string slice(const std::string& endpoints, const std::string& name = "s-1", const std::string& type = "IPv4",
                  const std::string& ports = "[{name: grpc, port: 8080}]") {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name +
         ", labels: {kubernetes.io/service-name: s}}\naddressType: " + type + "\nports: " + ports +
         "\nendpoints: " + endpoints + "\n";
}

struct Case {
  const char* description;
  std::vector<std::string> manifests;
  const char* endpoints;
};

const Case kCases[] = {
    {"sorted by address",
     {service(), slice("[{addresses: [10.0.0.9]}, {addresses: [10.0.0.10]}, {addresses: [10.0.0.2]}]")},
     "10.0.0.2:8080 10.0.0.9:8080 10.0.0.10:8080"},
    {"no slice", {service()}, ""},
    {"unready ones are left out",
     {service(), slice("[{addresses: [10.0.0.1], conditions: {ready: false}}, {addresses: [10.0.0.2]}]")},
     "10.0.0.2:8080"},
    {"none ready: nobody, unless serving and terminating",
     {service(),
      slice("[{addresses: [10.0.0.1], conditions: {ready: false}}, {addresses: [10.0.0.2], conditions: {ready: "
            "false, serving: true, terminating: true}}, {addresses: [10.0.0.3], conditions: {ready: false, "
            "serving: false, terminating: true}}]")},
     "10.0.0.2:8080"},
    {"terminating ones are not used while one is ready, also of another slice",
     {service(),
      slice("[{addresses: [10.0.0.2], conditions: {ready: false, serving: true, terminating: true}}]", "s-1"),
      slice("[{addresses: [10.0.0.3]}]", "s-2")},
     "10.0.0.3:8080"},
    {"serving without terminating is not a last resort",
     {service(), slice("[{addresses: [10.0.0.1], conditions: {ready: false, serving: true}}]")},
     ""},
    {"publishNotReadyAddresses",
     {service("publishNotReadyAddresses: true"),
      slice("[{addresses: [10.0.0.1], conditions: {ready: false}}, {addresses: [10.0.0.2]}]")},
     "10.0.0.1:8080 10.0.0.2:8080"},
    {"internalTrafficPolicy Local",
     {service("internalTrafficPolicy: Local"),
      slice("[{addresses: [10.0.0.1], nodeName: other}, {addresses: [10.0.0.2], nodeName: here}, {addresses: "
            "[10.0.0.3]}]")},
     "10.0.0.2:8080"},
    {"internalTrafficPolicy Local: a terminating endpoint here, not a ready one there",
     {service("internalTrafficPolicy: Local"),
      slice("[{addresses: [10.0.0.1], nodeName: other}, {addresses: [10.0.0.2], nodeName: here, conditions: {ready: "
            "false, serving: true, terminating: true}}]")},
     "10.0.0.2:8080"},
    {"duplicates in several slices, one copy stale",
     {service(), slice("[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]", "s-1"),
      slice("[{addresses: [10.0.0.2], conditions: {ready: false}}, {addresses: [10.0.0.1]}]", "s-2")},
     "10.0.0.1:8080 10.0.0.2:8080"},
    {"only the first address of an endpoint",
     {service(), slice("[{addresses: [10.0.0.1, 10.0.0.2]}]")},
     "10.0.0.1:8080"},
    {"other port names do not match",
     {service(), slice("[{addresses: [10.0.0.1]}]", "s-1", "IPv4", "[{name: http, port: 8080}, {port: 8081}]")},
     ""},
    {"other protocols do not match",
     {service(), slice("[{addresses: [10.0.0.1]}]", "s-1", "IPv4", "[{name: grpc, port: 8080, protocol: UDP}]")},
     ""},
    {"a port without a number does not match",
     {service(), slice("[{addresses: [10.0.0.1]}]", "s-1", "IPv4", "[{name: grpc}]")},
     ""},
    {"slices may differ in the port behind the name",
     {service(), slice("[{addresses: [10.0.0.1]}]", "s-1"),
      slice("[{addresses: [10.0.0.2]}]", "s-2", "IPv4", "[{name: grpc, port: 9090}]")},
     "10.0.0.1:8080 10.0.0.2:9090"},
    {"dual-stack: both families",
     {service("clusterIPs: [10.96.0.1, 'fd00::1']"), slice("[{addresses: [10.0.0.1]}]", "s-1"),
      slice("[{addresses: ['fd00::11']}]", "s-2", "IPv6")},
     "10.0.0.1:8080 [fd00::11]:8080"},
    {"dual-stack: each family has its own last resort",
     {service("clusterIPs: [10.96.0.1, 'fd00::1']"), slice("[{addresses: [10.0.0.1]}]", "s-1"),
      slice("[{addresses: ['fd00::11'], conditions: {ready: false, serving: true, terminating: true}}]", "s-2",
            "IPv6")},
     "10.0.0.1:8080 [fd00::11]:8080"},
    {"one ClusterIP: only its family",
     {service("clusterIPs: ['fd00::1']"), slice("[{addresses: [10.0.0.1]}]", "s-1"),
      slice("[{addresses: ['fd00::11']}]", "s-2", "IPv6")},
     "[fd00::11]:8080"},
    {"ipFamilies decides",
     {service("ipFamilies: [IPv6]"), slice("[{addresses: [10.0.0.1]}]", "s-1"),
      slice("[{addresses: ['fd00::11']}]", "s-2", "IPv6")},
     "[fd00::11]:8080"},
    {"headless: what there is",
     {service("clusterIP: None"), slice("[{addresses: ['fd00::11']}]", "s-2", "IPv6")},
     "[fd00::11]:8080"},
    {"zone hints",
     {service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: a}, {name: z}]}}, "
                       "{addresses: [10.0.0.2], hints: {forZones: [{name: b}]}}]")},
     "10.0.0.1:8080"},
    {"zone hints: one ready endpoint has none",
     {service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: z}]}}, {addresses: [10.0.0.2]}]")},
     "10.0.0.1:8080 10.0.0.2:8080"},
    {"zone hints: none is for this zone",
     {service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: a}]}}, "
                       "{addresses: [10.0.0.2], hints: {forZones: [{name: b}]}}]")},
     "10.0.0.1:8080 10.0.0.2:8080"},
    {"zone hints: of those that are ready",
     {service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: z}]}}, {addresses: [10.0.0.2], hints: "
                       "{forZones: [{name: b}]}}, {addresses: [10.0.0.3], conditions: {ready: false}}]")},
     "10.0.0.1:8080"},
    {"node hints go before zone hints",
     {service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: z}], forNodes: [{name: other}]}}, "
                       "{addresses: [10.0.0.2], hints: {forZones: [{name: z}], forNodes: [{name: here}]}}, "
                       "{addresses: [10.0.0.3], hints: {forZones: [{name: b}], forNodes: [{name: other}]}}]")},
     "10.0.0.2:8080"},
    {"node hints: none is for this node, so the zone's",
     {service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: z}], forNodes: [{name: other}]}}, "
                       "{addresses: [10.0.0.3], hints: {forZones: [{name: b}], forNodes: [{name: other}]}}]")},
     "10.0.0.1:8080"},
    {"internalTrafficPolicy Local goes before hints",
     {service("internalTrafficPolicy: Local"),
      slice("[{addresses: [10.0.0.1], nodeName: here, hints: {forZones: [{name: b}]}}, "
            "{addresses: [10.0.0.2], nodeName: other, hints: {forZones: [{name: z}]}}]")},
     "10.0.0.1:8080"},
    {"FQDN slices have no addresses", {service(), slice("[{addresses: [x.example.com]}]", "s-1", "FQDN")}, ""},
    {"slices of another namespace",
     {service(),
      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-1, namespace: other, labels: "
      "{kubernetes.io/service-name: s}}\naddressType: IPv4\nports: [{name: grpc, port: 8080}]\nendpoints: "
      "[{addresses: [10.0.0.1]}]\n"},
     ""},
};

TEST(Endpoints, FollowKubeProxy) {
  for (const Case& c : kCases) {
    World world(c.manifests, {.node_name = "here", .zone = "z"});
    world.build();
    EXPECT_EQ(world.endpoints("s", 80), c.endpoints) << c.description;
  }
}

TEST(Endpoints, KnowTheirPodAndNode) {
  World world({service(), slice("[{addresses: [10.0.0.1], nodeName: n, targetRef: {kind: Pod, name: p}}, {addresses: "
                                "[10.0.0.2], targetRef: {kind: Node, name: q}}]")});
  const auto endpoints = world.build()->services[0]->ports[0].cluster->endpoints;
  ASSERT_EQ(endpoints.size(), 2u);
  EXPECT_EQ(endpoints[0].pod, "p");
  EXPECT_EQ(endpoints[0].node_name, "n");
  EXPECT_EQ(endpoints[1].pod, "");
}

TEST(Services, HaveNamesAddressesAndProtocols) {
  World world({R"(
apiVersion: v1
kind: Service
metadata: {name: s, namespace: shop, labels: {a: b}}
spec:
  clusterIPs: [10.96.0.1, "fd00::1"]
  ports:
  - {name: grpc-api, port: 50051}
  - {name: api-port, port: 9090}
  - {name: http, port: 80}
  - {name: tcp-x, port: 81}
  - {name: dns, port: 53, protocol: UDP}
  - {name: dns-tcp, port: 53}
)"},
              {.cluster_domain = "example.org"});
  world.build();
  const config::Service* s = world.service("s");
  ASSERT_NE(s, nullptr);
  EXPECT_EQ(s->fqdn, "s.shop.svc.example.org");
  EXPECT_EQ(s->vips.size(), 2u);
  EXPECT_EQ(s->labels.at("a"), "b");
  ASSERT_EQ(s->ports.size(), 6u);
  EXPECT_EQ(s->ports[0].cluster->name, "outbound|50051||s.shop.svc.example.org");
  EXPECT_EQ(s->ports[0].cluster->load_balancing, config::LoadBalancing::least_request);
  auto port = [&](size_t i, Protocol protocol, Mode mode, Mode diverted) {
    EXPECT_EQ(s->ports[i].protocol, protocol) << i;
    EXPECT_EQ(s->ports[i].mode, mode) << i;
    EXPECT_EQ(s->ports[i].diverted_mode(), diverted) << i;
  };
  port(0, Protocol::grpc, Mode::l7, Mode::l7);
  port(1, Protocol::unknown, Mode::detect, Mode::none);
  port(2, Protocol::http, Mode::detect, Mode::none);
  port(3, Protocol::tcp, Mode::none, Mode::none);
  port(4, Protocol::not_tcp, Mode::none, Mode::none);
  port(5, Protocol::tcp, Mode::none, Mode::none);  // port 53 is well known
  EXPECT_EQ(s->ports[0].mode_reason, "port name grpc-api");
  EXPECT_EQ(world.snapshot->directory->by_address.size(), 10u) << "five TCP ports of two addresses";
  const auto found = world.snapshot->at({*base::IpAddress::parse("fd00::1"), 53});
  ASSERT_NE(found.port, nullptr);
  EXPECT_EQ(found.port->name, "dns-tcp");
}

TEST(Services, DetectUndeclaredPortsUnlessTheyAreExempt) {
  const struct {
    const char* annotation;
    bool agent_detects;
    Mode expected;
    size_t warnings;
  } cases[] = {
      {"", true, Mode::detect, 0},         {"", false, Mode::none, 0},
      {"off", true, Mode::none, 0},        {"on", true, Mode::detect, 0},
      {"on", false, Mode::none, 0},        {"x=off", true, Mode::none, 0},
      {"80=off", true, Mode::none, 0},     {" grpc=off , x = off", true, Mode::none, 0},
      {"grpc=off", true, Mode::detect, 0}, {"off, x=on", true, Mode::detect, 0},
      {"y=off", true, Mode::detect, 1},    {"no", true, Mode::detect, 1},
      {"x=no,x=off", true, Mode::none, 1}, {",", true, Mode::detect, 0},
  };
  for (const auto& c : cases) {
    World world(
        {"apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {weir.dev/detect: '" +
             std::string(c.annotation) +
             "'}}\nspec: {clusterIP: 10.96.0.1, ports: [{name: x, port: 80}, {name: grpc, port: 81}]}\n",
         slice("[{addresses: [10.0.0.1]}]", "s-1", "IPv4", "[{name: x, port: 8080}, {name: grpc, port: 8081}]")},
        {.detect = c.agent_detects});
    const auto ports = world.build()->services[0]->ports;
    EXPECT_EQ(ports[0].mode, c.expected) << c.annotation;
    EXPECT_EQ(ports[0].diverted_mode(), c.expected) << c.annotation;
    EXPECT_EQ(ports[1].mode, Mode::l7) << c.annotation << ": declared";
    EXPECT_EQ(world.findings("WEIR0401").size(), c.warnings) << c.annotation;
    ASSERT_EQ(world.findings("WEIR0301").size(), 1u) << c.annotation;
    EXPECT_THAT(world.findings("WEIR0301")[0].message,
                HasSubstr(c.expected == Mode::detect ? "detected" : "not diverted"));
  }
}

TEST(Services, WithoutAddressAreKnownButNotDivertible) {
  for (const char* more : {"clusterIP: None", "clusterIP: ''", "type: ExternalName"}) {
    World world({service(more)});
    world.build();
    ASSERT_NE(world.service("s"), nullptr) << more;
    bool external = std::string_view(more).starts_with("type");
    EXPECT_EQ(world.service("s")->vips.size(), 0u) << more;
    EXPECT_TRUE(world.snapshot->directory->by_address.empty()) << more;
    EXPECT_EQ(world.findings("WEIR0302").size(), std::string_view(more) == "clusterIP: ''" ? 1u : 0u)
        << more << external;
  }
}

// externalIPs and NodePorts are kube-proxy's, also where a Service has an address of its own, as a load balancer's is.
TEST(Services, AreDialledAtNoAddressOfNodesAndTheOutside) {
  for (const char* more : {"externalIPs: [192.0.2.7, 10.96.0.9]", "type: NodePort\n  externalIPs: [192.0.2.7]",
                           "type: LoadBalancer\n  loadBalancerIP: 192.0.2.8\n  externalIPs: [192.0.2.7]"}) {
    World world({"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  clusterIP: 10.96.0.1\n"
                 "  ports: [{name: grpc, port: 80, nodePort: 30080}]\n  " +
                     std::string(more) + "\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}\n",
                 slice("[{addresses: [10.0.0.1], nodeName: here}]")},
                {.node_name = "here"});
    world.build();
    std::vector<std::string> dialled;
    for (const auto& [address, place] : world.snapshot->directory->by_address) dialled.push_back(address.to_string());
    EXPECT_THAT(dialled, ElementsAre("10.96.0.1:80")) << more;
    EXPECT_TRUE(world.snapshot->by_endpoint->empty()) << more;
    for (const char* address : {"192.0.2.7", "192.0.2.8", "192.0.2.9", "10.96.0.9", "10.0.0.1"})
      for (const uint16_t port : {80, 8080, 30080})
        EXPECT_EQ(world.snapshot->at({*base::IpAddress::parse(address), port}).port, nullptr) << address << ":" << port;
    EXPECT_THAT(world.service("s")->vips, ElementsAre(*base::IpAddress::parse("10.96.0.1")));
  }
}

TEST(Services, OneAddressBelongsToOneService) {
  World world(
      {"apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {clusterIP: 10.96.0.1, ports: [{name: grpc, port: "
       "80}]}\n",
       "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.1, ports: [{name: grpc, port: "
       "80}]}\n"});
  world.build();
  EXPECT_EQ((*world.snapshot->at({*base::IpAddress::parse("10.96.0.1"), 80}).service)->name, "a");
  ASSERT_EQ(world.findings("WEIR0303").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0303")[0].object, "Service default/b");
}

TEST(Services, AreBalancedAsTheirAnnotationSays) {
  const struct {
    const char* annotation;
    config::LoadBalancing expected;
    size_t warnings;
  } cases[] = {
      {"", config::LoadBalancing::least_request, 0},
      {", annotations: {weir.dev/load-balancing: LEAST_REQUEST}", config::LoadBalancing::least_request, 0},
      {", annotations: {weir.dev/load-balancing: ROUND_ROBIN}", config::LoadBalancing::round_robin, 0},
      {", annotations: {weir.dev/load-balancing: RANDOM}", config::LoadBalancing::random, 0},
      {", annotations: {weir.dev/load-balancing: round-robin}", config::LoadBalancing::least_request, 1},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.annotation);
    std::string manifest = service();
    manifest.replace(manifest.find("{name: s}"), 9, std::string("{name: s") + c.annotation + "}");
    World world({manifest, slice("[{addresses: [10.0.0.1]}]")});
    EXPECT_EQ(world.build()->services.front()->ports.front().cluster->load_balancing, c.expected);
    EXPECT_EQ(world.findings("WEIR0401").size(), c.warnings);
  }
}

TEST(Services, TellOfABalanceHeadlessThatMeansNothing) {
  const struct {
    const char *cluster_ip, *value;
    size_t warnings;
  } cases[] = {{"None", "'true'", 0},
               {"None", "'false'", 0},
               {"None", "'on'", 1},
               {"10.96.0.1", "'true'", 1},
               {"10.96.0.1", "'false'", 0}};
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.cluster_ip) + " " + c.value);
    std::string manifest = service(std::string("clusterIP: ") + c.cluster_ip);
    manifest.replace(manifest.find("{name: s}"), 9,
                     std::string("{name: s, annotations: {weir.dev/balance-headless: ") + c.value + "}}");
    World world({manifest, slice("[{addresses: [10.0.0.1]}]")});
    world.build();
    EXPECT_EQ(world.findings("WEIR0401").size(), c.warnings);
  }
}

TEST(Services, TellWhatIsNotApplied) {
  World world({service("trafficDistribution: PreferClose\n  internalTrafficPolicy: Local"),
               slice("[{addresses: [10.0.0.1]}]")});
  world.build();
  ASSERT_EQ(world.findings("WEIR0304").size(), 1u);
  EXPECT_THAT(world.findings("WEIR0304")[0].message, HasSubstr("trafficDistribution 'PreferClose'"));
  EXPECT_EQ(world.findings("WEIR0304")[0].severity, config::Severity::info);
  EXPECT_EQ(world.findings("WEIR0306").size(), 1u);
  EXPECT_EQ(world.endpoints("s", 80), "10.0.0.1:8080") << "Local without a node name means all";
}

TEST(Services, HintsNeedTheAgentsZone) {
  World world({service(), slice("[{addresses: [10.0.0.1], hints: {forZones: [{name: z}]}}]")});
  world.build();
  EXPECT_EQ(world.findings("WEIR0308").size(), 1u);
  EXPECT_EQ(world.endpoints("s", 80), "10.0.0.1:8080");
}

TEST(Services, SessionAffinityHoldsUnlessADestinationRuleBalances) {
  const auto affinity = [](const std::string& spec, const std::string& rule = "") {
    World world({service(spec), slice("[{addresses: [10.0.0.1]}]"), rule});
    const auto& port = world.build()->services.front()->ports.front();
    return (*port.cluster_for("", "default", {}))->session_affinity;
  };
  using std::chrono::seconds;
  EXPECT_EQ(affinity("sessionAffinity: None"), std::nullopt);
  EXPECT_EQ(affinity("sessionAffinity: ClientIP"), seconds(10800));
  EXPECT_EQ(affinity("sessionAffinity: ClientIP\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}"),
            seconds(5));
  const std::string rule =
      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: s, "
      "trafficPolicy: {";
  EXPECT_EQ(affinity("sessionAffinity: ClientIP", rule + "loadBalancer: {simple: RANDOM}}}"), std::nullopt);
  EXPECT_EQ(affinity("sessionAffinity: ClientIP", rule + "connectionPool: {tcp: {maxConnections: 1}}}}"),
            seconds(10800));
}

TEST(Services, TellAboutSlicesThatDoNotFit) {
  World world({service(), slice("[{addresses: [10.0.0.1]}]", "s-1", "IPv4", "[{name: http, port: 8080}]"),
               "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: lost}\naddressType: IPv4\n",
               "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: typo, labels: "
               "{kubernetes.io/service-name: ss}}\naddressType: IPv4\n"});
  world.build();
  ASSERT_EQ(world.findings("WEIR0305").size(), 1u);
  const config::Finding finding = world.findings("WEIR0305")[0];
  EXPECT_EQ(finding.file, "0.yaml");
  EXPECT_EQ(finding.line, 5);
  EXPECT_EQ(finding.object, "Service default/s");
  EXPECT_THAT(finding.message, HasSubstr("'http'"));
  EXPECT_EQ(world.findings("WEIR0307").size(), 2u);
}

TEST(Sharing, KeepsWhatDidNotChange) {
  std::string two_ports =
      "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.1, ports: [{name: grpc, port: "
      "80}, "
      "{name: tcp, port: 81}]}\n";
  std::string other =
      "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec: {clusterIP: 10.96.0.2, ports: [{name: grpc, port: "
      "80}]}\n";
  std::string pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: u}\nstatus: {podIP: 10.0.0.5}\n";
  World world({two_ports, slice("[{addresses: [10.0.0.1]}]", "s-1"), other, pod});
  auto first = world.build();
  auto second = world.build();
  EXPECT_EQ(first->revision + 1, second->revision);
  EXPECT_EQ(first->services, second->services);
  EXPECT_EQ(first->pods, second->pods);
  EXPECT_EQ(first->directory->by_address, second->directory->by_address);
  EXPECT_EQ(*first->pods_by_address, *second->pods_by_address);

  world.set("1.yaml", slice("[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]", "s-1"));
  auto third = world.build();
  ASSERT_EQ(third->services.size(), 2u);
  EXPECT_EQ(third->services[0], second->services[0]) << "other";
  EXPECT_NE(third->services[1], second->services[1]) << "s";
  EXPECT_NE(third->services[1]->ports[0].cluster, second->services[1]->ports[0].cluster);
  EXPECT_EQ(third->services[1]->ports[1].cluster, second->services[1]->ports[1].cluster)
      << "no endpoints before and after";
  EXPECT_EQ(third->pods, second->pods);

  world.store.forget("2.yaml");
  EXPECT_EQ(world.build()->services.size(), 1u);
}

TEST(Findings, AreSorted) {
  World world({service("trafficDistribution: PreferClose"), "a: [\n", service("clusterIP: ''")});
  world.build();
  const auto& findings = *world.snapshot->findings;
  ASSERT_GE(findings.size(), 3u);
  for (size_t i = 1; i < findings.size(); ++i) EXPECT_LE(findings[i - 1].file, findings[i].file);
}

}  // namespace
}  // namespace weir::kubernetes
