// VirtualServices and DestinationRules: what is read, what is refused, and which of them govern a Service.
#include <gtest/gtest.h>

#include "kubernetes/translate_istio.h"
#include "manifests.h"

namespace weir::kubernetes {
namespace {

using namespace std::chrono_literals;
using config::RetryOn;
using config::StringMatch;
using testing::ElementsAre;
using testing::HasSubstr;

std::string virtual_service(const std::string& spec, const std::string& metadata = "name: v",
                            const std::string& version = "v1") {
  return "apiVersion: networking.istio.io/" + version + "\nkind: VirtualService\nmetadata: {" + metadata +
         "}\nspec:\n" + spec;
}
std::string destination_rule(const std::string& spec, const std::string& metadata = "name: d") {
  return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {" + metadata + "}\nspec:\n" + spec;
}
template <class T>
const T& only(const SourceContents& contents) {
  EXPECT_EQ(contents.objects.size(), 1u) << testing::PrintToString(contents);
  return std::get<T>(contents.objects.at(0));
}

TEST(VirtualServiceDecode, ReadsEveryPartOfARule) {
  const SourceContents contents = read_manifest(virtual_service(R"(
  hosts: [greeter, other.example.com]
  exportTo: [., shop]
  http:
  - name: all
    match:
    - name: m
      uri: {prefix: /pkg.Greeter/}
      ignoreUriCase: true
      method: {exact: POST}
      scheme: {exact: http}
      authority: {regex: "greeter.*"}
      headers: {X-User: {exact: ann}, x-any: {}}
      withoutHeaders: {x-no: {prefix: a}}
      queryParams: {lang: {exact: de}}
      port: 80
      sourceLabels: {app: web}
      sourceNamespace: shop
    - uri: {exact: /b}
    route:
    - destination: {host: greeter, subset: v1, port: {number: 80}}
      weight: 90
      headers: {request: {set: {A: "1"}}, response: {remove: [B]}}
    - destination: {host: greeter.bank.svc.cluster.local}
      weight: 10
    - destination: {host: never}
      weight: 0
    timeout: 5s
    headers: {request: {add: {c: d}}}
    rewrite: {uri: /new/, authority: other}
  - directResponse: {status: 418, body: {string: tea}}
)"),
                                                "f.yaml");
  EXPECT_EQ(codes(contents.findings), "");
  const auto& service = only<VirtualService>(contents);
  EXPECT_THAT(service.hosts, ElementsAre("greeter", "other.example.com"));
  EXPECT_THAT(service.export_to, ElementsAre(".", "shop"));
  ASSERT_EQ(service.http.size(), 2u);
  const config::RouteRule& rule = service.http[0];
  ASSERT_EQ(rule.matches.size(), 2u);
  const config::RequestMatch& match = rule.matches[0];
  StringMatch uri = StringMatch::prefix("/pkg.Greeter/");
  uri.ignore_case();
  EXPECT_EQ(match.uri, uri);
  EXPECT_EQ(match.method, StringMatch::exact("POST"));
  EXPECT_EQ(match.authority->to_string(), "regex \"greeter.*\"");
  EXPECT_THAT(match.headers, ElementsAre(config::HeaderMatch{"x-user", StringMatch::exact("ann"), false},
                                         config::HeaderMatch{"x-any", StringMatch(), false},
                                         config::HeaderMatch{"x-no", StringMatch::prefix("a"), true}));
  EXPECT_EQ(match.port, 80);
  EXPECT_EQ(match.source_namespace, "shop");
  EXPECT_EQ(match.source_labels.at("app"), "web");
  ASSERT_EQ(rule.destinations.size(), 2u);  // a weight of 0 is never chosen
  EXPECT_EQ(rule.destinations[0].subset, "v1");
  EXPECT_EQ(rule.destinations[0].port, 80);
  EXPECT_EQ(rule.destinations[0].weight, 90u);
  EXPECT_EQ(rule.destinations[0].headers.request.set.at("a"), "1");
  EXPECT_THAT(rule.destinations[0].headers.response.remove, ElementsAre("b"));
  EXPECT_EQ(rule.timeout, 5s);
  EXPECT_EQ(rule.headers.request.add.at("c"), "d");
  EXPECT_EQ(rule.rewrite->uri, "/new/");
  EXPECT_EQ(rule.rewrite->authority, "other");
  EXPECT_EQ(service.http[1].direct_response->status, 418);
  EXPECT_EQ(service.http[1].direct_response->body, "tea");
}

TEST(VirtualServiceDecode, RetriesAsIstioReadsThem) {
  struct Case {
    const char* retries;
    uint32_t attempts;
    std::vector<RetryOn> conditions;
    const char* codes;
  };
  const std::vector<RetryOn> kDefault = {RetryOn::connect_failure, RetryOn::refused_stream, RetryOn::unavailable,
                                         RetryOn::cancelled};
  const Case kCases[] = {
      {"retries: {attempts: 0}", 0, kDefault, ""},
      {"retries: {perTryTimeout: 2s}", 0, kDefault, ""},
      {"retries: {attempts: 3}", 3, kDefault, "WEIR0512"},
      {"retries: {attempts: 3, retryOn: \"unavailable, resource-exhausted,deadline-exceeded\"}",
       3,
       {RetryOn::unavailable, RetryOn::resource_exhausted, RetryOn::deadline_exceeded},
       "WEIR0512"},
      {"retries: {attempts: 1, retryOn: \"5xx,503,gateway-error,retriable-status-codes\"}",
       1,
       {RetryOn::http_5xx, RetryOn::gateway_error, RetryOn::retriable_status_codes},
       "WEIR0512"},
      {"retries: {attempts: 1, retryOn: \"unavailabel,99,reset\"}", 1, {RetryOn::reset}, "WEIR0503 WEIR0503 WEIR0512"},
      {"retries: {attempts: 0, retryOn: reset}", 0, {RetryOn::reset}, ""},
      {"retries: {attempts: 1, retryOn: \"connect-failure,refused-stream,reset-before-request\"}",
       1,
       {RetryOn::connect_failure, RetryOn::refused_stream, RetryOn::reset_before_request},
       ""},
      {"retries: {attempts: 1, retryOn: retriable-headers}", 1, {}, "WEIR0501"},
  };
  for (const Case& c : kCases) {
    const SourceContents contents =
        read_manifest(virtual_service("  hosts: [a]\n  http:\n  - route: [{destination: {host: a}}]\n    " +
                                      std::string(c.retries) + "\n"),
                      "f.yaml");
    EXPECT_EQ(codes(contents.findings), c.codes) << c.retries;
    const config::RetryPolicy& policy = *only<VirtualService>(contents).http.at(0).retries;
    EXPECT_EQ(policy.attempts, c.attempts) << c.retries;
    uint32_t bits = 0;
    for (const RetryOn condition : c.conditions) bits |= static_cast<uint32_t>(condition);
    EXPECT_EQ(policy.conditions, bits) << c.retries;
  }
}

TEST(VirtualServiceDecode, RetriesThatMayRepeatCallsAreToldOfOnce) {
  const std::string rule = "  - route: [{destination: {host: a}}]\n";
  const std::string repeating = rule + "    retries:\n      attempts: 2\n      retryOn: connect-failure,unavailable\n";
  const std::string no_list = rule + "    retries:\n      attempts: 2\n";
  const struct {
    std::string rules;
    const char* metadata;
    int line;  // of the finding, 0: there is none
  } kCases[] = {
      {rule + repeating + repeating, "name: v", 11},
      {no_list, "name: v", 9},
      {rule, "name: v", 0},
      {repeating, "name: v, annotations: {weir.dev/idempotent-methods: p.S/M}", 0},
      {repeating, "name: v, annotations: {weir.dev/idempotent-methods: \"\"}", 0},
      {"  - directResponse: {status: 200}\n    retries: {attempts: 2}\n", "name: v", 0},
      {rule + "  - match: [{gateways: [gw]}]\n    route: [{destination: {host: a}}]\n    retries: {attempts: 2}\n",
       "name: v", 0},
  };
  for (const auto& c : kCases) {
    const SourceContents contents =
        read_manifest(virtual_service("  hosts: [a]\n  http:\n" + c.rules, c.metadata), "f.yaml");
    ASSERT_EQ(codes(contents.findings), c.line ? "WEIR0512" : "") << c.rules << testing::PrintToString(contents);
    if (c.line == 0) continue;
    EXPECT_EQ(contents.findings[0].line, c.line);
    EXPECT_EQ(contents.findings[0].severity, config::Severity::warning);
    EXPECT_THAT(contents.findings[0].fix, HasSubstr("weir.dev/idempotent-methods"));
  }
}

TEST(VirtualServiceDecode, IsRefusedWithTheReason) {
  const struct {
    const char* rule;
    const char* code;
    const char* message;
  } kCases[] = {
      {"{match: [{uri: {regex: \"(\"}}], route: [{destination: {host: a}}]}", "WEIR0103", "RE2"},
      {"{route: [{destination: {host: a}, weight: -1}, {destination: {host: b}, weight: 1}]}", "WEIR0103", "-1"},
      {"{route: [{destination: {host: a}, weight: 0}, {destination: {host: b}}]}", "WEIR0103", "no weight"},
      {"{route: [{destination: {}}]}", "WEIR0102", "no host"},
      {"{route: [{destination: {host: a}}], timeout: 2x}", "WEIR0103", "no duration"},
      {"{route: [{destination: {host: a}}], retries: {attempts: 1, perTryTimeout: 0s}}", "WEIR0103", "0s"},
      {"{route: [{destination: {host: a}, headers: {request: {set: {x-version: 1}}}}]}", "WEIR0101", "string"},
      {"{match: [{headers: {x: abc}}], route: [{destination: {host: a}}]}", "WEIR0101", "mapping"},
      {"{route: [{destination: {host: a, port: {number: 70000}}}]}", "WEIR0103", "port"},
      {"{directResponse: {status: 42}}", "WEIR0103", "42"},
  };
  for (const auto& c : kCases) {
    const SourceContents contents =
        read_manifest(virtual_service("  hosts: [a]\n  http:\n  - " + std::string(c.rule) + "\n"), "f.yaml");
    EXPECT_EQ(contents.objects.size(), 0u) << c.rule;
    EXPECT_EQ(contents.rejected.size(), 1u) << c.rule;
    ASSERT_FALSE(contents.findings.empty()) << c.rule;
    EXPECT_EQ(contents.findings[0].code, c.code) << c.rule << testing::PrintToString(contents);
    EXPECT_THAT(contents.findings[0].message, HasSubstr(c.message)) << c.rule;
    EXPECT_GT(contents.findings[0].line, 4) << c.rule;
  }
}

TEST(VirtualServiceDecode, WhatIsForGatewaysHasNoPartInTheMesh) {
  const struct {
    const char* spec;
    size_t rules;
  } kCases[] = {
      {"  hosts: [a]\n  gateways: [gw]\n  http: [{route: [{destination: {host: a}}]}]\n", 0},
      {"  hosts: [a]\n  gateways: [gw, mesh]\n  http: [{route: [{destination: {host: a}}]}]\n", 1},
      {"  hosts: [a]\n  http: [{match: [{port: 1, gateways: [gw]}], route: [{destination: {host: a}}]}]\n", 0},
      {"  hosts: [a]\n  http: [{match: [{port: 1, gateways: [gw]}, {port: 2}], route: [{destination: {host: a}}]}]\n",
       1},
      {"  hosts: [a]\n  gateways: [gw]\n  http: [{match: [{port: 1, gateways: [mesh]}], route: [{destination: {host: "
       "a}}]}]\n",
       1},
  };
  for (const auto& c : kCases) {
    const SourceContents contents = read_manifest(virtual_service(c.spec), "f.yaml");
    const auto& service = only<VirtualService>(contents);
    EXPECT_EQ(service.http.size(), c.rules) << c.spec;
    EXPECT_EQ(codes(contents.findings), c.rules ? "" : "WEIR0513") << c.spec;
    for (const config::RouteRule& rule : service.http) EXPECT_LE(rule.matches.size(), 1u) << c.spec;
  }
}

TEST(VirtualServiceDecode, TellsWhatIsNotApplied) {
  for (const char* part : {"fault: {abort: {httpStatus: 503}}", "mirror: {host: b}", "redirect: {uri: /x}",
                           "delegate: {name: d}", "corsPolicy: {allowCredentials: true}"}) {
    const SourceContents contents =
        read_manifest(virtual_service("  hosts: [a]\n  http:\n  - route: [{destination: {host: a}}]\n    " +
                                      std::string(part) + "\n"),
                      "f.yaml");
    EXPECT_EQ(contents.objects.size(), 1u) << part;
    EXPECT_EQ(codes(contents.findings), "WEIR0501") << part;
    EXPECT_EQ(contents.findings[0].line, 8) << part;
  }
}

TEST(DestinationRuleDecode, ReadsPoliciesAndSubsets) {
  const SourceContents contents = read_manifest(destination_rule(R"(
  host: greeter
  workloadSelector: {matchLabels: {app: web}}
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 100, connectTimeout: 3s, tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}}
      http: {maxRequestsPerConnection: 0, maxConcurrentStreams: 50, http2MaxRequests: 7, idleTimeout: 10m}
    outlierDetection: {consecutive5xxErrors: 3, interval: 1s, maxEjectionPercent: 50}
    retryBudget: {percent: 12.5, minRetryConcurrency: 4}
    portLevelSettings:
    - port: {number: 81}
      loadBalancer: {simple: RANDOM}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}
  - name: v2
    labels: {version: v2}
)"),
                                                "f.yaml");
  const auto& rule = only<DestinationRule>(contents);
  EXPECT_EQ(rule.host, "greeter");
  EXPECT_EQ(rule.workload_selector.at("app"), "web");
  const config::TrafficPolicy& policy = rule.policy.policy;
  EXPECT_EQ(policy.load_balancing, config::LoadBalancing::round_robin);
  EXPECT_EQ(policy.connection_pool->max_connections, 100u);
  EXPECT_EQ(policy.connection_pool->connect_timeout, 3s);
  EXPECT_EQ(policy.connection_pool->max_requests_per_connection, config::kNoLimit);
  EXPECT_EQ(policy.connection_pool->max_concurrent_streams, 50u);
  EXPECT_EQ(policy.connection_pool->max_requests, 7u);
  EXPECT_EQ(policy.connection_pool->idle_timeout, 10min);
  EXPECT_EQ(policy.connection_pool->tcp_keepalive, (config::TcpKeepalive{3, 2h, 75s}));
  EXPECT_TRUE(contents.findings.empty()) << codes(contents.findings);
  EXPECT_EQ(policy.outlier_detection->consecutive_5xx_errors, 3u);
  EXPECT_EQ(policy.outlier_detection->max_ejection_percent, 50u);
  EXPECT_EQ(policy.outlier_detection->base_ejection_time, 30s);
  EXPECT_EQ(policy.retry_budget->percent, 12.5);
  // A port's settings replace the others, but for the retry budget.
  const config::TrafficPolicy port = rule.policy.of_port(81);
  EXPECT_EQ(port.load_balancing, config::LoadBalancing::random);
  EXPECT_FALSE(port.connection_pool);
  EXPECT_EQ(port.retry_budget->min_retry_concurrency, 4u);
  ASSERT_EQ(rule.subsets.size(), 2u);
  EXPECT_EQ(rule.subsets[0].policy.policy.load_balancing, config::LoadBalancing::least_request);
  EXPECT_EQ(rule.subsets[1].labels.at("version"), "v2");
}

TEST(DestinationRuleDecode, TlsIsLoudAndBadValuesAreRefused) {
  for (const char* mode : {"SIMPLE", "MUTUAL", "ISTIO_MUTUAL"}) {
    const SourceContents contents = read_manifest(
        destination_rule("  host: a\n  trafficPolicy: {tls: {mode: " + std::string(mode) + "}}\n"), "f.yaml");
    ASSERT_EQ(codes(contents.findings), "WEIR0508") << mode;
    EXPECT_EQ(contents.findings[0].severity, config::Severity::error);
    EXPECT_THAT(contents.findings[0].message, HasSubstr("FAIL"));
  }
  EXPECT_EQ(
      codes(read_manifest(destination_rule("  host: a\n  trafficPolicy: {tls: {mode: DISABLE}}\n"), "f").findings), "");
  for (const char* policy :
       {"{outlierDetection: {maxEjectionPercent: 101}}", "{loadBalancer: {simple: FASTEST}}",
        "{connectionPool: {tcp: {maxConnections: -1}}}", "{connectionPool: {tcp: {connectTimeout: 0s}}}",
        "{retryBudget: {percent: 100.5}}", "{portLevelSettings: [{loadBalancer: {simple: RANDOM}}]}"}) {
    const SourceContents contents =
        read_manifest(destination_rule("  host: a\n  trafficPolicy: " + std::string(policy) + "\n"), "f.yaml");
    EXPECT_EQ(contents.objects.size(), 0u) << policy << testing::PrintToString(contents);
  }
}

TEST(Hosts, AreCompletedAndMatched) {
  EXPECT_EQ(complete_host("greeter", "shop", "cluster.local"), "greeter.shop.svc.cluster.local");
  EXPECT_EQ(complete_host("Greeter.Bank.svc.cluster.local", "shop", "cluster.local"), "greeter.bank.svc.cluster.local");
  EXPECT_EQ(complete_host("*", "shop", "cluster.local"), "*");
  const struct {
    const char *pattern, *host;
    bool expected;
  } kCases[] = {
      {"a.b.c", "a.b.c", true}, {"a.b.c", "x.a.b.c", false}, {"*.b.c", "a.b.c", true},
      {"*.b.c", "b.c", false},  {"*.b.c", "x.a.b.c", true},  {"*", "a", true},
      {"*.b.c", "ab.c", false}, {"*.b.c", ".b.c", false},
  };
  for (const auto& c : kCases) EXPECT_EQ(host_matches(c.pattern, c.host), c.expected) << c.pattern << " " << c.host;
}

std::string greeter(const std::string& namespace_name = "default") {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: greeter, namespace: " + namespace_name +
         "}\nspec: {clusterIP: 10.96.0.1, ports: [{name: grpc, port: 80}]}\n---\n"
         "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: greeter-1, namespace: " +
         namespace_name +
         ", labels: {kubernetes.io/service-name: greeter}}\naddressType: IPv4\nports: [{name: grpc, port: 8080}]\n"
         "endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: p1}}, {addresses: [10.0.0.2]}]\n---\n"
         "apiVersion: v1\nkind: Pod\nmetadata: {name: p1, namespace: " +
         namespace_name + ", labels: {version: v1}}\nstatus: {podIPs: [{ip: 10.0.0.1}]}\n---\n" +
         "apiVersion: v1\nkind: Pod\nmetadata: {name: p2, namespace: " + namespace_name +
         ", labels: {version: v2}}\nstatus: {podIPs: [{ip: 10.0.0.2}]}\n";
}
std::string route_to(const std::string& host, const std::string& destination = "greeter") {
  return "  hosts: [\"" + host + "\"]\n  http: [{route: [{destination: {host: " + destination + "}}]}]\n";
}
std::vector<std::string> governors(const World& world) {
  std::vector<std::string> names;
  for (const auto& service : world.service("greeter")->virtual_services) names.push_back(service->name);
  return names;
}

TEST(IstioRules, TheMostSpecificAndOldestVirtualServiceComesFirst) {
  World world({greeter(), virtual_service(route_to("*"), "name: all"),
               virtual_service(route_to("*.default.svc.cluster.local"), "name: space"),
               virtual_service(route_to("greeter"), "name: young, creationTimestamp: \"2026-02-01T00:00:00Z\""),
               virtual_service(route_to("greeter.default.svc.cluster.local"),
                               "name: zz-old, creationTimestamp: \"2026-01-01T00:00:00Z\""),
               virtual_service(route_to("greeter.other"), "name: none")});
  world.build();
  EXPECT_THAT(governors(world), ElementsAre("zz-old", "young", "space", "all"));
  ASSERT_EQ(world.findings("WEIR0506").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0506")[0].object, "VirtualService default/young");
  ASSERT_EQ(world.findings("WEIR0504").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0504")[0].object, "VirtualService default/none");
}

TEST(IstioRules, AHostIsClaimedTwiceOnlyIfSomeClientSeesBoth) {
  const struct {
    const char *of_a, *of_b;  // exportTo
    std::vector<std::string> findings;
  } kCases[] = {
      {"[shop]", "[bank]", {}},
      {"[.]", "[shop, bank]", {}},
      {"[.]", "[shop, default]", {"b after a"}},
      {"[bank, shop]", "[shop]", {"b after a"}},
      {"[shop]", "[\"*\"]", {"b after 0"}},
      {"[]", "[shop]", {"a after 0", "b after a"}},
  };
  for (const auto& c : kCases) {
    const auto claim = [](const char* name, const std::string& export_to) {
      return virtual_service("  exportTo: " + export_to + "\n" + route_to("greeter"), std::string("name: ") + name);
    };
    World world({greeter(), claim("\"0\"", "[elsewhere]"), claim("a", c.of_a), claim("b", c.of_b)});
    world.build();
    std::vector<std::string> found;
    for (const config::Finding& finding : world.findings("WEIR0506")) {
      const std::string holder = "belongs to VirtualService default/";
      found.push_back(finding.object.substr(finding.object.find('/') + 1) + " after " +
                      finding.message.substr(finding.message.find(holder) + holder.size(), 1));
    }
    EXPECT_EQ(found, c.findings) << c.of_a << " " << c.of_b;
  }
}

TEST(IstioRules, SubsetsAreTheEndpointsWithTheirLabels) {
  World world({greeter(), destination_rule(R"(
  host: greeter
  trafficPolicy: {loadBalancer: {simple: RANDOM}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: nobody, labels: {version: v3}}
)")});
  world.build();
  const config::ServicePort* port = world.service("greeter")->find_port(80);
  const auto cluster = [&](const char* subset) { return port->cluster_for(subset, "default", {}); };
  EXPECT_EQ((*cluster(""))->endpoints.size(), 2u);
  EXPECT_EQ((*cluster(""))->load_balancing, config::LoadBalancing::random);
  ASSERT_EQ((*cluster("v1"))->endpoints.size(), 1u);
  EXPECT_EQ((*cluster("v1"))->endpoints[0].address.to_string(), "10.0.0.1:8080");
  EXPECT_EQ((*cluster("v1"))->name, "outbound|80|v1|greeter.default.svc.cluster.local");
  EXPECT_EQ((*cluster("v1"))->load_balancing, config::LoadBalancing::random);
  EXPECT_EQ((*cluster("v2"))->endpoints[0].address.to_string(), "10.0.0.2:8080");
  EXPECT_EQ((*cluster("v2"))->load_balancing, config::LoadBalancing::round_robin);
  EXPECT_TRUE((*cluster("nobody"))->endpoints.empty());
  EXPECT_EQ(cluster("v4"), nullptr);
  // What did not change is the same object.
  const auto before = *cluster("v1");
  world.set("more.yaml", virtual_service(route_to("greeter")));
  world.build();
  EXPECT_EQ(*world.service("greeter")->find_port(80)->cluster_for("v1", "default", {}), before);
}

// A TCP port is left alone until somebody says how its connections are to be treated; an undeclared one learns until
// then. What is said of HTTP only doesn't count.
TEST(IstioRules, WhatADestinationRuleSaysOfConnectionsDecidesHowPortsAreTaken) {
  using config::Mode;
  const std::string manifest =
      "apiVersion: v1\nkind: Service\nmetadata: {name: greeter}\nspec: {clusterIP: 10.96.0.10, ports: [{name: tcp-x, "
      "port: 80}, {name: x, port: 81}, {name: grpc, port: 82}]}\n";
  const struct {
    const char* policy;
    Mode tcp, undeclared;
    bool learns;
  } cases[] = {
      {nullptr, Mode::none, Mode::detect, true},
      {"connectionPool: {tcp: {maxConnections: 5}}", Mode::tcp, Mode::detect, false},
      {"connectionPool: {tcp: {idleTimeout: 5s}}", Mode::tcp, Mode::detect, false},
      {"connectionPool: {tcp: {maxConnectionDuration: 5s}}", Mode::tcp, Mode::detect, false},
      {"connectionPool: {tcp: {tcpKeepalive: {time: 60s}}}", Mode::tcp, Mode::detect, false},
      {"connectionPool: {http: {http2MaxRequests: 5}}", Mode::none, Mode::detect, true},
      {"loadBalancer: {simple: ROUND_ROBIN}", Mode::tcp, Mode::detect, false},
      {"connectionPool: {tcp: {connectTimeout: 1s}}", Mode::tcp, Mode::detect, false},
      {"outlierDetection: {consecutive5xxErrors: 3}", Mode::none, Mode::detect, true},
      {"tls: {mode: ISTIO_MUTUAL}", Mode::none, Mode::none, false},
      {"{loadBalancer: {simple: ROUND_ROBIN}, tls: {mode: SIMPLE}}", Mode::none, Mode::none, false},
      {"portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]", Mode::tcp, Mode::detect, true},
      {"portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]", Mode::none, Mode::detect, false},
      {"portLevelSettings: [{port: {number: 81}, tls: {mode: SIMPLE}}]", Mode::none, Mode::none, false},
  };
  for (const auto& c : cases) {
    std::vector<std::string> manifests{manifest};
    if (c.policy) {
      const std::string policy = c.policy[0] == '{' ? c.policy : "{" + std::string(c.policy) + "}";
      manifests.push_back(destination_rule("  host: greeter\n  trafficPolicy: " + policy + "\n"));
    }
    World world(manifests);
    world.build();
    const auto& ports = world.service("greeter")->ports;
    EXPECT_EQ(ports[0].mode, c.tcp) << (c.policy ? c.policy : "none");
    EXPECT_EQ(ports[1].mode, c.undeclared) << (c.policy ? c.policy : "none");
    EXPECT_EQ(ports[1].learns(), c.learns) << (c.policy ? c.policy : "none");
    EXPECT_EQ(ports[2].mode, Mode::l7);
  }
}

// Connections that passed by the agent would be spread by kube-proxy, to endpoints of its own choice.
TEST(IstioRules, WhatTheServiceItselfSaysOfConnectionsIsNotLostByLearning) {
  const auto learns = [](const std::string& metadata, const std::string& spec) {
    World world({"apiVersion: v1\nkind: Service\nmetadata: {name: greeter" + metadata +
                 "}\nspec: {clusterIP: 10.96.0.10, ports: [{name: x, port: 81}]" + spec + "}\n"});
    world.build();
    return world.service("greeter")->ports[0].learns();
  };
  EXPECT_TRUE(learns("", ""));
  EXPECT_TRUE(learns("", ", sessionAffinity: None"));
  EXPECT_FALSE(learns("", ", sessionAffinity: ClientIP"));
  EXPECT_FALSE(learns(", annotations: {weir.dev/load-balancing: ROUND_ROBIN}", ""));
}

TEST(IstioRules, HttpRulesForAPortThatNeedNotBeHttp2AreToldOf) {
  const auto found = [](const std::string& ports) {
    World world({"apiVersion: v1\nkind: Service\nmetadata: {name: greeter}\nspec: {clusterIP: 10.96.0.10, ports: [" +
                     ports + "]}\n",
                 virtual_service(route_to("greeter"))});
    world.build();
    std::string all;
    for (const config::Finding& finding : world.findings("WEIR0309")) all += finding.message + "\n";
    return all;
  };
  using testing::HasSubstr;
  EXPECT_THAT(found("{name: http, port: 81}"), HasSubstr("apply to the HTTP/2 connections of port 81 'http' only"));
  EXPECT_THAT(found("{name: tcp-x, port: 80}"), HasSubstr("do not apply to port 80 'tcp-x'"));
  EXPECT_EQ(found("{name: grpc, port: 82}"), "");
  EXPECT_EQ(found("{name: grpc, port: 82}, {name: tcp-x, port: 80}"), "") << "they are meant for the other port";
}

TEST(IstioRules, PoliciesAreLookedUpFromTheClientOnwards) {
  const auto balancing = [](const char* simple) {
    return "  host: greeter.default.svc.cluster.local\n  trafficPolicy: {loadBalancer: {simple: " +
           std::string(simple) + "}}\n";
  };
  World world({greeter(), destination_rule(balancing("ROUND_ROBIN"), "name: d, namespace: shop"),
               destination_rule(balancing("RANDOM"), "name: d, namespace: istio-system"),
               destination_rule("  workloadSelector: {matchLabels: {app: web}}\n" + balancing("LEAST_REQUEST"),
                                "name: w, namespace: shop")});
  const auto chosen = [&](const char* client, const config::Labels& labels = {}) {
    return (*world.service("greeter")->find_port(80)->cluster_for("", client, labels))->load_balancing;
  };
  world.build();
  EXPECT_EQ(chosen("shop"), config::LoadBalancing::round_robin);
  EXPECT_EQ(chosen("shop", {{"app", "web"}}), config::LoadBalancing::least_request);
  EXPECT_EQ(chosen("bank"), config::LoadBalancing::random);
  // The service's own namespace comes before the root's; exportTo "." keeps it there.
  world.set("own.yaml", destination_rule(balancing("ROUND_ROBIN"), "name: own"));
  world.build();
  EXPECT_EQ(chosen("bank"), config::LoadBalancing::round_robin);
  world.set("own.yaml", destination_rule("  exportTo: [.]\n" + balancing("ROUND_ROBIN"), "name: own"));
  world.build();
  EXPECT_EQ(chosen("bank"), config::LoadBalancing::random);
  EXPECT_EQ(chosen("default"), config::LoadBalancing::round_robin);
}

TEST(IstioRules, OfSeveralForOneHostTheFirstPolicyAndAllSubsetsCount) {
  World world(
      {greeter(), destination_rule("  host: greeter\n  subsets: [{name: v1, labels: {version: v1}}]\n", "name: a"),
       destination_rule("  host: greeter\n  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n  subsets: [{name: v1, "
                        "labels: {version: v2}}, {name: v2, labels: {version: v2}}]\n",
                        "name: b")});
  world.build();
  const config::ServicePort* port = world.service("greeter")->find_port(80);
  EXPECT_EQ((*port->cluster_for("", "x", {}))->load_balancing, config::LoadBalancing::random);
  EXPECT_EQ((*port->cluster_for("v1", "x", {}))->endpoints[0].address.to_string(), "10.0.0.1:8080");
  EXPECT_EQ((*port->cluster_for("v2", "x", {}))->endpoints[0].address.to_string(), "10.0.0.2:8080");
  ASSERT_EQ(world.findings("WEIR0507").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0507")[0].object, "DestinationRule default/b");
}

TEST(IstioRules, RoutesThatLeadNowhereAreFindings) {
  World world({greeter(),
               virtual_service("  hosts: [greeter]\n  http:\n  - route: [{destination: {host: greeter, subset: v9}}]\n"
                               "  - route: [{destination: {host: nobody}}]\n")});
  world.build();
  ASSERT_EQ(world.findings("WEIR0505").size(), 1u);
  EXPECT_THAT(world.findings("WEIR0505")[0].message, HasSubstr("'v9'"));
  ASSERT_EQ(world.findings("WEIR0504").size(), 1u);
  EXPECT_THAT(world.findings("WEIR0504")[0].message, HasSubstr("nobody.default.svc.cluster.local"));
  EXPECT_EQ(world.findings("WEIR0505")[0].line, 7);
  EXPECT_EQ(world.findings("WEIR0504")[0].line, 8);
  EXPECT_THAT(world.findings("WEIR0504")[0].fix, HasSubstr("create the Service"));
}

TEST(IstioRules, TheLikelyFixNamesWhatIsThere) {
  World world({greeter(), greeter("shop"),
               destination_rule("  host: greeter\n  subsets: [{name: v1, labels: {}}, {name: v2, labels: {}}]\n"),
               virtual_service("  hosts: [greeter]\n  http:\n  - route:\n"
                               "    - destination:\n        host: greeter\n        subset: v3\n      weight: 1\n"
                               "    - destination:\n        host: greeter.shop.svc.cluster.cluster.local\n"
                               "      weight: 1\n")});
  world.build();
  ASSERT_EQ(world.findings("WEIR0505").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0505")[0].line, 10);
  EXPECT_THAT(world.findings("WEIR0505")[0].fix, HasSubstr("defined are 'v1', 'v2'"));
  ASSERT_EQ(world.findings("WEIR0504").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0504")[0].line, 13);
  EXPECT_EQ(world.findings("WEIR0504")[0].fix, "write 'greeter.shop.svc.cluster.local'");
}

TEST(VirtualServiceDecode, ADestinationThatIsThereTwiceIsAFinding) {
  const struct {
    const char* routes;
    const char* codes;
  } kCases[] = {
      {"[{destination: {host: a, subset: v1}, weight: 90}, {destination: {host: a, subset: v1}, weight: 10}]",
       "WEIR0511"},
      {"[{destination: {host: a}, weight: 90}, {destination: {host: a}, weight: 10}]", "WEIR0511"},
      {"[{destination: {host: a, subset: v1}, weight: 90}, {destination: {host: a, subset: v2}, weight: 10}]", ""},
      {"[{destination: {host: a, subset: v1}, weight: 90}, {destination: {host: a, subset: v1}, weight: 0}]", ""},
      {"[{destination: {host: a, port: {number: 1}}, weight: 1}, {destination: {host: a, port: {number: 2}}, "
       "weight: 1}]",
       ""},
      {"[{destination: {host: a}, weight: 1}, {destination: {host: a}, weight: 1, headers: {request: {set: {x: "
       "y}}}}]",
       ""},
  };
  for (const auto& c : kCases) {
    const SourceContents contents =
        read_manifest(virtual_service("  hosts: [a]\n  http:\n  - route: " + std::string(c.routes) + "\n"), "f.yaml");
    EXPECT_EQ(codes(contents.findings), c.codes) << c.routes;
    EXPECT_EQ(only<VirtualService>(contents).places.size(), only<VirtualService>(contents).http[0].destinations.size());
    for (const config::Finding& finding : contents.findings) {
      EXPECT_EQ(finding.line, 7);
      EXPECT_NE(finding.fix, "");
    }
  }
}

}  // namespace
}  // namespace weir::kubernetes
