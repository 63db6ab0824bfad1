// Where headless Services are dialled: at their own pods, and never at what is another's.
#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using config::Mode;
using testing::HasSubstr;

std::string headless(const std::string& name, const std::string& home, const std::string& annotation = "true",
                     const std::string& selector = "{app: x}") {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: " + home +
         ", annotations: {weir.dev/balance-headless: '" + annotation +
         "'}}\nspec: {clusterIP: None, selector: " + selector +
         ", ports: [{name: grpc, port: 80}, {name: other, port: 81}]}\n";
}

std::string service(const std::string& name, const std::string& home, const std::string& ip) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + ", namespace: " + home +
         "}\nspec: {clusterIP: " + ip + ", ports: [{name: grpc, port: 8080}, {name: other, port: 8081}]}\n";
}

std::string slice(const std::string& name, const std::string& home, const std::string& endpoints,
                  const std::string& more_labels = {}) {
  return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name + "-1, namespace: " + home +
         ", labels: {kubernetes.io/service-name: " + name + more_labels +
         "}}\naddressType: IPv4\nports: [{name: grpc, port: 8080}, {name: other, port: 8081}]\nendpoints: " +
         endpoints + "\n";
}

std::string pod(const std::string& name, const std::string& home, const std::string& ip, const char* spec = "{}") {
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", namespace: " + home + "}\nspec: " + spec +
         "\nstatus: {podIP: " + ip + "}\n";
}

constexpr char kManaged[] = ", endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io";

class EndpointAddresses : public testing::Test {
 protected:
  // As the API server has them: in place of what had that kind, name and namespace before.
  void set(const std::string& text) {
    const size_t end = text.find_first_of(",}", text.find("namespace: "));
    world_.store.replace(text.substr(0, end), read_manifest(text, {}));
  }
  // "NAMESPACE/NAME" of who is dialled; empty: nobody.
  std::string at(const std::string& ip, uint16_t port = 8080) const {
    const auto found = world_.snapshot->at({*base::IpAddress::parse(ip), port});
    return found.service ? (*found.service)->namespace_name + "/" + (*found.service)->name : "";
  }
  std::string messages(const std::string& code) const {
    std::string all;
    for (const config::Finding& finding : world_.findings(code)) all += finding.object + " " + finding.message + "\n";
    return all;
  }

  World world_;
};

TEST_F(EndpointAddresses, AreDialledIfTheServiceAsksForIt) {
  for (const bool asks : {true, false}) {
    world_.set("service", headless("s", "default", asks ? "true" : "no"));
    world_.set("slice", slice("s", "default",
                              "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3], conditions: "
                              "{ready: false}}]"));
    world_.build();
    EXPECT_TRUE(world_.snapshot->directory->by_address.empty());
    EXPECT_EQ(world_.snapshot->by_endpoint->size(), asks ? 4u : 0u);
    const auto found = world_.snapshot->at({*base::IpAddress::parse("10.0.0.2"), 8080});
    ASSERT_EQ(found.port != nullptr, asks);
    EXPECT_EQ(at("10.0.0.3"), "") << "not ready";
    if (!asks) continue;
    EXPECT_EQ(found.port->port, 80);
    EXPECT_EQ(found.port->diverted_mode(), Mode::l7);
    EXPECT_EQ(world_.snapshot->at({*base::IpAddress::parse("10.0.0.1"), 8081}).port->diverted_mode(), Mode::detect);
    EXPECT_EQ(at("10.0.0.1", 80), "");
  }
}

// Names that sort before those of whom they would take something from, and slices that anybody may have written.
TEST_F(EndpointAddresses, AClusterIpStaysItsServices) {
  for (const char* labels : {"", kManaged}) {
    set(headless("thief", "a"));
    set(slice("thief", "a", "[{addresses: [10.96.0.1], targetRef: {kind: Pod, name: t}}]", labels));
    set(service("victim", "b", "10.96.0.1"));
    world_.build();
    EXPECT_EQ(at("10.96.0.1"), "b/victim") << labels;
    EXPECT_EQ(at("10.96.0.1", 8081), "b/victim") << labels;
  }
  EXPECT_EQ(messages("WEIR0303"),
            "Service a/thief addresses of its endpoints, 10.96.0.1:8080 for one, belong to Service b/victim already\n")
      << "one finding for the two of them";
}

TEST_F(EndpointAddresses, OfPodsThatAreKnownAreTheirNamespaces) {
  set(headless("s", "a"));
  set(pod("mine", "a", "10.0.0.1"));
  set(pod("yours", "b", "10.0.0.2"));
  for (const char* labels : {"", kManaged}) {
    set(slice("s", "a",
              "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], targetRef: {kind: Pod, name: mine, namespace: a}}]",
              labels));
    world_.build();
    EXPECT_EQ(at("10.0.0.1"), "a/s") << labels;
    EXPECT_EQ(at("10.0.0.2"), "") << labels;
    EXPECT_THAT(messages("WEIR0310"), HasSubstr("Service a/s connections to its endpoints' addresses 10.0.0.2:8080 and "
                                                "1 more are not diverted"))
        << labels;
  }
}

// The agent has no addresses of pods on other nodes.
TEST_F(EndpointAddresses, OfOtherPodsAreBelievedAsKubernetesWritesThem) {
  const struct {
    const char *what, *selector, *target, *labels;
    bool believed;
  } cases[] = {
      {"its controller", "{app: x}", "{kind: Pod, name: p}", kManaged, true},
      {"that says which namespace", "{app: x}", "{kind: Pod, name: p, namespace: a}", kManaged, true},
      {"anybody", "{app: x}", "{kind: Pod, name: p}", "", false},
      {"a mirror of Endpoints", "{app: x}", "{kind: Pod, name: p}",
       ", endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io", false},
      {"a Service whose slices nobody corrects", "{}", "{kind: Pod, name: p}", kManaged, false},
      {"no pod", "{app: x}", "{}", kManaged, false},
      {"something else", "{app: x}", "{kind: Node, name: p}", kManaged, false},
      {"another namespace's pod", "{app: x}", "{kind: Pod, name: p, namespace: b}", kManaged, false},
  };
  for (const auto& c : cases) {
    set(headless("s", "a", "true", c.selector));
    set(slice("s", "a", "[{addresses: [10.0.9.1], targetRef: " + std::string(c.target) + "}]", c.labels));
    world_.build();
    EXPECT_EQ(at("10.0.9.1"), c.believed ? "a/s" : "") << c.what;
    EXPECT_EQ(world_.findings("WEIR0310").size(), c.believed ? 0u : 1u) << c.what;
  }
}

TEST_F(EndpointAddresses, OfFilesAreBelievedUnlessTheyAreAnothersPod) {
  world_.set("service", headless("s", "a"));
  world_.set("slice", slice("s", "a", "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]"));
  world_.set("pod", pod("yours", "b", "10.0.0.2"));
  world_.build();
  EXPECT_EQ(at("10.0.0.1"), "a/s");
  EXPECT_EQ(at("10.0.0.2"), "");
}

TEST_F(EndpointAddresses, OfTwoHeadlessServicesAreTheFirstByName) {
  world_.set("pod", pod("p", "a", "10.0.0.1"));
  for (const char* name : {"s", "r"}) {
    world_.set(name, headless(name, "a"));
    world_.set(std::string(name) + "-slice", slice(name, "a", "[{addresses: [10.0.0.1]}]"));
  }
  world_.build();
  EXPECT_EQ(at("10.0.0.1"), "a/r");
  EXPECT_EQ(messages("WEIR0303"),
            "Service a/s addresses of its endpoints, 10.0.0.1:8080 for one, belong to Service a/r already\n");
}

TEST_F(EndpointAddresses, AreBoundedForAServiceAndForAll) {
  constexpr int kServices = 20, kEndpoints = 600;
  for (int n = 0; n < kServices; ++n) {
    const std::string name = "s" + std::to_string(10 + n);
    std::string endpoints = "[";
    for (int i = 0; i < kEndpoints; ++i)
      endpoints += "{addresses: [10." + std::to_string(n) + "." + std::to_string(i / 250) + "." +
                   std::to_string(1 + i % 250) + "]},";
    world_.set(name, headless(name, "a"));
    world_.set(name + "-slice", slice(name, "a", endpoints + "]"));
  }
  world_.build();
  EXPECT_EQ(world_.snapshot->by_endpoint->size(), 16384u);
  EXPECT_EQ(at("10.0.0.1"), "a/s10");
  EXPECT_EQ(at("10.0.0.1", 8081), "a/s10");
  EXPECT_EQ(at("10.0.2.100", 8081), "") << "its 1200th";
  EXPECT_EQ(at("10.19.0.1"), "");
  const auto findings = world_.findings("WEIR0311");
  EXPECT_EQ(findings.size(), 20u + 4u) << "one for each Service of too many, and for each that found no room";
  EXPECT_THAT(findings[0].message,
              HasSubstr("has more than 1000 addresses: connections to 10.0.1.151:8081 and 199 more are not diverted"));
  EXPECT_EQ(std::count_if(findings.begin(), findings.end(),
                          [](const config::Finding& finding) {
                            return finding.message.find("those of all Services are 16384 at most") != std::string::npos;
                          }),
            4);
  EXPECT_EQ(world_.service("s29")->ports[0].cluster->endpoints.size(), 600u) << "calls are balanced over all the same";
}

}  // namespace
}  // namespace weir::kubernetes
