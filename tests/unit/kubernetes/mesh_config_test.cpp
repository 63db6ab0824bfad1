// The mesh's configuration: what is hostile or changes. What its fields do is in tests/golden/tables/mesh.yaml.
#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using testing::HasSubstr;

std::string config_map(const std::string& data) {
  return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: " + data + "\n";
}

TEST(MeshConfig, WhatIsNoneIsRefusedAndTheLastGoodOneStays) {
  const std::string bomb =
      R"({mesh: "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n)"
      R"(c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c, *c]\n)"
      R"(e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e, *e]\n"})";
  World world({config_map(R"({mesh: "defaultHttpRetryPolicy: {attempts: 7}\n"})")});
  world.build();
  ASSERT_EQ(world.snapshot->default_retries.attempts, 7u);
  const struct {
    std::string data;
    const char* code;
    const char* message;
  } kCases[] = {
      {R"({mesh: "a: [\n"})", "WEIR0004", "data.mesh is no MeshConfig: "},
      {R"({mesh: "- a\n"})", "WEIR0004", "data.mesh is no MeshConfig: "},
      {R"({mesh: "a: 1\n---\nb: 2\n"})", "WEIR0004", "data.mesh has more than one document"},
      {bomb, "WEIR0004", "data.mesh is no MeshConfig: "},
      {"{mesh: {rootNamespace: a}}", "WEIR0101", "data.mesh is a mapping where a string is expected"},
      {"7", "WEIR0101", "data is an integer"},
  };
  for (const auto& c : kCases) {
    world.set("0.yaml", config_map(c.data));
    world.build();
    EXPECT_EQ(world.snapshot->default_retries.attempts, 7u) << c.data;
    ASSERT_EQ(world.snapshot->findings->size(), 1u) << c.data;
    const config::Finding& finding = world.snapshot->findings->front();
    EXPECT_EQ(finding.code, c.code) << c.data;
    EXPECT_EQ(finding.object, "ConfigMap istio-system/istio");
    EXPECT_EQ(finding.line, 4) << c.data;
    EXPECT_THAT(finding.message, HasSubstr(c.message));
    EXPECT_THAT(finding.message, HasSubstr("object rejected; its last good version stays"));
  }
}

TEST(MeshConfig, WhatIsEmptyOrGoneIsIstiosDefault) {
  for (const char* data : {"{}", "{mesh: \"\"}", "{mesh: \"# nothing\\n\"}", "{mesh: \"rootNamespace: \\n\"}",
                           "{meshNetworks: \"networks: {}\"}"}) {
    World world({config_map(data)});
    world.build();
    EXPECT_EQ(world.snapshot->default_retries, config::default_retry_policy()) << data;
    EXPECT_EQ(codes(*world.snapshot->findings), "") << data;
  }
  World world({config_map(R"({mesh: "defaultHttpRetryPolicy: {attempts: 7}\n"})")});
  world.build();
  world.store.forget("0.yaml");
  world.build();
  EXPECT_EQ(world.snapshot->default_retries, config::default_retry_policy());
}

TEST(MeshConfig, AChangedDefaultIsThatOfAnnotatedRulesTooAndLeavesTheOthersAlone) {
  const auto route = [](const std::string& name, const char* annotations) {
    return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + annotations +
           "}\nspec: {hosts: [" + name + "], http: [{route: [{destination: {host: a}}]}]}\n";
  };
  const auto service = [](const std::string& name) {
    return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name + "}\nspec: {ports: [{name: grpc, port: 80}]}\n";
  };
  World world({service("plain"), service("annotated"), route("plain", ""),
               route("annotated", ", annotations: {weir.dev/idempotent-methods: p.S/M}")});
  const auto routes_of = [&](const char* name) { return world.service(name)->virtual_services; };
  world.build();
  const auto before = routes_of("plain");
  world.set("mesh.yaml", config_map(R"({mesh: "defaultHttpRetryPolicy: {attempts: 7}\n"})"));
  world.build();
  ASSERT_EQ(routes_of("annotated").size(), 1u);
  const auto& annotated = routes_of("annotated")[0]->rules[0].retries;
  ASSERT_TRUE(annotated);
  EXPECT_EQ(annotated->attempts, 7u);
  EXPECT_THAT(*annotated->idempotent_methods, testing::ElementsAre("/p.S/M"));
  ASSERT_EQ(before.size(), 1u);
  EXPECT_EQ(routes_of("plain"), before) << "is the same object";
}

}  // namespace
}  // namespace weir::kubernetes
