#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using config::Dataplane;
using testing::ElementsAre;
using testing::HasSubstr;

// metadata, spec and status in flow style, without their braces.
std::string pod(const std::string& metadata, const std::string& spec = {}, const std::string& status = {}) {
  return "apiVersion: v1\nkind: Pod\nmetadata: {" + metadata + "}\nspec: {" + spec + "}\nstatus: {" + status + "}\n";
}
std::string home(const std::string& metadata) {
  return "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, " + metadata + "}\n";
}

TEST(Dataplane, PodsLabelThenNamespaces) {
  struct Case {
    const char* pod_label;
    const char* namespace_label;
    Dataplane expected;
    size_t findings;
  };
  const Case kCases[] = {
      {"", "", Dataplane::disabled, 0},
      {"enabled", "", Dataplane::enabled, 0},
      {"", "enabled", Dataplane::enabled, 0},
      {"disabled", "enabled", Dataplane::disabled, 0},
      {"observe", "enabled", Dataplane::observe, 0},
      {"enabled", "disabled", Dataplane::enabled, 0},
      {"", "observe", Dataplane::observe, 0},
      {"Enabled", "enabled", Dataplane::disabled, 1},
      {"", "true", Dataplane::disabled, 1},
  };
  for (const Case& c : kCases) {
    auto label = [](std::string value) { return value.empty() ? "" : "labels: {weir.dev/dataplane: '" + value + "'}"; };
    World world({pod("name: p, uid: u, " + label(c.pod_label)), home(label(c.namespace_label))});
    world.build();
    ASSERT_EQ(world.snapshot->pods.size(), 1u);
    EXPECT_EQ(world.snapshot->pods[0]->dataplane, c.expected) << c.pod_label << "/" << c.namespace_label;
    EXPECT_EQ(world.findings("WEIR0401").size(), c.findings) << c.pod_label << "/" << c.namespace_label;
  }
}

TEST(Dataplane, WorksWithoutANamespaceObject) {
  World world({pod("name: p, namespace: unknown, uid: u, labels: {weir.dev/dataplane: enabled}")});
  EXPECT_EQ(world.build()->pods[0]->dataplane, Dataplane::enabled);
}

TEST(Refusal, HasAReason) {
  struct Case {
    const char* metadata;
    const char* spec;
    const char* namespace_labels;
    const char* reason;
  };
  const Case kCases[] = {
      {"uid: u", "containers: [{name: app}]", "{}", ""},
      {"uid: u", "containers: [{name: app}, {name: istio-proxy}]", "{}", "has the container istio-proxy"},
      {"uid: u", "containers: [{name: linkerd-proxy}]", "{}", "has the container linkerd-proxy"},
      {"uid: u", "initContainers: [{name: istio-proxy, restartPolicy: Always}]", "{}", "has the container istio-proxy"},
      {"uid: u", "initContainers: [{name: istio-init}]", "{}", ""},
      {"uid: u", "hostNetwork: true", "{}", "uses the host's network"},
      {"uid: u", "runtimeClassName: gvisor", "{}", "has the sandboxed runtime 'gvisor'"},
      {"uid: u", "runtimeClassName: kata-qemu", "{}", "has the sandboxed runtime 'kata-qemu'"},
      {"uid: u", "runtimeClassName: runc", "{}", ""},
      {"uid: u", "", "{istio.io/dataplane-mode: ambient}", "is in Istio's ambient mesh"},
      {"uid: u", "", "{istio.io/dataplane-mode: none}", ""},
      {"", "", "{}", "has no metadata.uid"},
      {"uid: u, annotations: {weir.dev/exclude-outbound-ports: '1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17'}", "", "{}",
       "excludes more than 16 ports"},
      {"uid: u, annotations: {weir.dev/exclude-outbound-ports: '1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,16'}", "", "{}",
       ""},
  };
  for (const Case& c : kCases) {
    World world({pod(std::string("name: p, labels: {weir.dev/dataplane: enabled}, ") + c.metadata, c.spec),
                 home(std::string("labels: ") + c.namespace_labels)});
    world.build();
    ASSERT_EQ(world.snapshot->pods.size(), 1u) << c.metadata << c.spec;
    EXPECT_EQ(world.snapshot->pods[0]->refusal.substr(0, std::string_view(c.reason).size()), c.reason);
    EXPECT_EQ(world.snapshot->pods[0]->refusal.empty(), std::string_view(c.reason).empty())
        << world.snapshot->pods[0]->refusal;
    EXPECT_EQ(world.findings("WEIR0402").size(), std::string_view(c.reason).empty() ? 0u : 1u);
  }
}

TEST(Refusal, AmbientOnThePodOrNotInSpiteOfItsNamespace) {
  World world({pod("name: p, uid: u, labels: {weir.dev/dataplane: enabled, istio.io/dataplane-mode: ambient}"),
               pod("name: q, uid: u, labels: {weir.dev/dataplane: enabled, istio.io/dataplane-mode: none}"),
               home("labels: {istio.io/dataplane-mode: ambient}")});
  world.build();
  EXPECT_THAT(world.snapshot->pods[0]->refusal, HasSubstr("ambient"));
  EXPECT_EQ(world.snapshot->pods[1]->refusal, "");
}

TEST(Refusal, OfAPodThatDidNotAskIsNoFinding) {
  World world({pod("name: p, uid: u", "hostNetwork: true")});
  world.build();
  EXPECT_TRUE(world.findings("WEIR0402").empty());
}

TEST(ExcludedPorts, AreTheUnionOfBothAnnotations) {
  World world(
      {pod("name: p, uid: u, annotations: {weir.dev/exclude-outbound-ports: ' 443, 80 ,', "
           "traffic.sidecar.istio.io/excludeOutboundPorts: '80,15020'}")});
  EXPECT_THAT(world.build()->pods[0]->excluded_ports, ElementsAre(80, 443, 15020));
  for (const char* bad : {"x", "0", "65536", "80x", "-1", "80-90", "*", "80;81"}) {
    World other(
        {pod(std::string("name: p, uid: u, annotations: {weir.dev/exclude-outbound-ports: '22,") + bad + "'}")});
    EXPECT_THAT(other.build()->pods[0]->excluded_ports, ElementsAre(22)) << bad;
    EXPECT_EQ(other.findings("WEIR0403").size(), 1u) << bad;
  }
}

TEST(FailPolicy, PodsAnnotationThenNamespaces) {
  struct Case {
    const char* pod_value;
    const char* namespace_value;
    bool closed;
    size_t findings;
  };
  const Case kCases[] = {{"", "", false, 0},
                         {"closed", "", true, 0},
                         {"", "closed", true, 0},
                         {"open", "closed", false, 0},
                         {"shut", "", false, 1}};
  for (const Case& c : kCases) {
    auto note = [](std::string value) {
      return value.empty() ? "" : "annotations: {weir.dev/fail-policy: " + value + "}";
    };
    World world({pod("name: p, uid: u, " + note(c.pod_value)), home(note(c.namespace_value))});
    EXPECT_EQ(world.build()->pods[0]->fail_closed, c.closed) << c.pod_value << "/" << c.namespace_value;
    EXPECT_EQ(world.findings("WEIR0401").size(), c.findings);
  }
}

TEST(Pods, MayOptOutOfRedirect) {
  struct Case {
    const char* pod_value;
    const char* namespace_value;
    bool redirect;
    size_t findings;
  };
  const Case kCases[] = {{"", "", true, 0},
                         {"'off'", "", false, 0},
                         {"", "'off'", false, 0},
                         {"'on'", "'off'", true, 0},
                         {"never", "", true, 1}};
  for (const Case& c : kCases) {
    auto note = [](std::string value) {
      return value.empty() ? "" : "annotations: {weir.dev/redirect: " + value + "}";
    };
    World world({pod("name: p, uid: u, " + note(c.pod_value)), home(note(c.namespace_value))});
    EXPECT_EQ(world.build()->pods[0]->redirect, c.redirect) << c.pod_value << "/" << c.namespace_value;
    EXPECT_EQ(world.findings("WEIR0401").size(), c.findings);
  }
}

std::string names(const World& world) {
  std::string text;
  for (const auto& pod : world.snapshot->pods) text += pod->name + " ";
  return text;
}
std::string holder(const World& world, const char* ip) {
  const auto& pods = *world.snapshot->pods_by_address;
  const auto found = pods.find(*base::IpAddress::parse(ip));
  return found == pods.end() ? "nobody" : found->second->name;
}

TEST(Pods, OfThisNodeOnlyButAddressesOfAll) {
  World world({pod("name: a, uid: u", "nodeName: here", "podIP: 10.0.0.1"),
               pod("name: b, uid: u, labels: {weir.dev/dataplane: enabled}", "nodeName: there, hostNetwork: false",
                   "podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]"),
               pod("name: c, uid: u", "", "podIP: 10.0.0.3"),
               pod("name: d, uid: u", "nodeName: here, hostNetwork: true", "podIP: 192.168.0.1"),
               pod("name: e, uid: u", "nodeName: here", "podIP: 10.0.0.5, phase: Succeeded"),
               pod("name: f, uid: u", "nodeName: here", "podIP: 10.0.0.6, phase: Failed"),
               pod("name: g, uid: u", "nodeName: here", "phase: Pending")},
              {.node_name = "here"});
  Pod from_api;
  from_api.metadata.namespace_name = "default";
  from_api.metadata.name = "unscheduled";
  world.store.apply("api", from_api);
  world.build();
  EXPECT_EQ(names(world), "a c d g ") << "c is from a file and has no nodeName";
  EXPECT_EQ(holder(world, "10.0.0.1"), "a");
  EXPECT_EQ(holder(world, "10.0.0.2"), "b");
  EXPECT_EQ(holder(world, "fd00::2"), "b");
  EXPECT_EQ(holder(world, "10.0.0.3"), "c");
  EXPECT_EQ(holder(world, "192.168.0.1"), "nobody") << "host network";
  EXPECT_EQ(holder(world, "10.0.0.5"), "nobody") << "finished";
  EXPECT_EQ(holder(world, "10.0.0.6"), "nobody");
  auto before = *world.snapshot->pods_by_address;
  EXPECT_EQ(*world.build()->pods_by_address, before) << "pods of other nodes are shared too";
}

TEST(Pods, AllOfThemWithoutANodeName) {
  World world({pod("name: a, uid: u", "nodeName: here"), pod("name: b, uid: u", "nodeName: there")});
  world.build();
  EXPECT_EQ(names(world), "a b ");
}

TEST(Pods, AnAddressGoesToThePodThatStays) {
  std::string leaving = "deletionTimestamp: '2026-01-01T00:00:00Z'";
  World world({pod("name: a, uid: u, " + leaving, "", "podIP: 10.0.0.1"), pod("name: b, uid: u", "", "podIP: 10.0.0.1"),
               pod("name: c, uid: u, " + leaving, "", "podIP: 10.0.0.1"), pod("name: d, uid: u", "", "podIP: 10.0.0.2"),
               pod("name: e, uid: u", "", "podIP: 10.0.0.2")});
  world.build();
  EXPECT_EQ(holder(world, "10.0.0.1"), "b");
  EXPECT_EQ(holder(world, "10.0.0.2"), "d");
  ASSERT_EQ(world.findings("WEIR0303").size(), 1u);
  EXPECT_EQ(world.findings("WEIR0303")[0].object, "Pod default/e");
}

TEST(Pods, CarryWhatLogsNeed) {
  World world({pod("name: a, uid: u-1, labels: {app: x}, annotations: {n: m, kubernetes.io/config.hash: abc}",
                   "serviceAccountName: sa, nodeName: here", "podIP: 10.0.0.1")});
  const config::Pod pod = *world.build()->pods[0];
  EXPECT_EQ(pod.qualified_name(), "default/a");
  EXPECT_EQ(pod.uid, "u-1");
  EXPECT_EQ(pod.service_account, "sa");
  EXPECT_EQ(pod.node_name, "here");
  EXPECT_EQ(pod.labels.at("app"), "x");
  EXPECT_EQ(pod.annotations, (config::Labels{{"kubernetes.io/config.hash", "abc"}})) << "nobody reads others";
}

}  // namespace
}  // namespace weir::kubernetes
