// Random damage to good manifests: whatever comes, nothing crashes, good objects
// beside the damage stay, and what is accepted translates.
#include <gtest/gtest.h>

#include <random>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

constexpr const char* kSeed = R"(apiVersion: v1
kind: Service
metadata: {name: victim, namespace: default, labels: {a: "b"}}
spec:
  clusterIPs: [10.96.0.1, "fd00::1"]
  type: ClusterIP
  ports:
  - {name: grpc-api, port: 50051, targetPort: 50051, appProtocol: grpc}
  - name: dns
    port: 53
    protocol: UDP
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: victim-1, labels: {kubernetes.io/service-name: victim}}
addressType: IPv4
ports: &ports [{name: grpc-api, port: 50051}]
endpoints:
- addresses: ["10.0.0.1"]
  conditions: {ready: true, serving: ~}
  targetRef: {kind: Pod, name: p}
- {addresses: ["10.0.0.2"], nodeName: n, hints: {forZones: [{name: z}]}}
---
kind: List
apiVersion: v1
items:
- kind: Pod
  apiVersion: v1
  metadata: {name: p, uid: 0-1, labels: {weir.dev/dataplane: enabled}, annotations: {weir.dev/exclude-outbound-ports: "1,2"}}
  spec: {containers: [{name: app}], hostNetwork: false}
  status: {podIPs: [{ip: 10.0.0.1}], phase: Running, conditions: [{type: Ready, status: "True"}]}
- {kind: Namespace, apiVersion: v1, metadata: {name: default}}
---
apiVersion: networking.io/v1
kind: VirtualService
metadata: {name: v}
spec: {http: [{route: [{destination: {host: x.svc.cluster.cluster.local}}]}]}
)";

constexpr const char* kBystander =
    "apiVersion: v1\nkind: Service\nmetadata: {name: bystander}\nspec: {clusterIP: 10.96.9.9, ports: [{name: grpc, "
    "port: "
    "80}]}\n";

const char* const kPieces[] = {
    "- ", ": ",   "\n", "\n---\n",  "{",    "}",  "[", "]",    "\"",   "'",    "&a ",   "*a ", "!!x ", "|\n", "\t",
    "#",  "null", "-1", "99999999", "<<: ", "? ", "%", "\xff", "\xc3", "true", "1.5e3", ",",   "\\u",  "\r",  "@"};

std::string damage(std::string text, std::mt19937& random) {
  int edits = 1 + static_cast<int>(random() % 6);
  for (int i = 0; i < edits; ++i) {
    size_t at = random() % (text.size() + 1);
    switch (random() % 5) {
      case 0:
        text.insert(at, kPieces[random() % std::size(kPieces)]);
        break;
      case 1:
        text.erase(at, 1 + random() % 20);
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random() % 256);
        break;
      case 3:
        text.insert(at, text.substr(random() % (text.size() + 1), random() % 200));
        break;
      case 4:
        text.resize(std::max<size_t>(at, 1));
        break;
    }
  }
  return text;
}

TEST(Hostile, DamagedManifestsHarmNothingElse) {
  std::mt19937 random(20260101);
  World world({kSeed});
  world.set("bystander.yaml", kBystander);
  world.build();
  ASSERT_EQ(world.endpoints("victim", 50051), "10.0.0.1:50051 10.0.0.2:50051");
  for (int i = 0; i < 3000; ++i) {
    std::string text = damage(kSeed, random);
    world.set(i % 3 == 0 ? "x.json" : "0.yaml", text);
    world.build();
    ASSERT_NE(world.service("bystander"), nullptr) << text;
    for (const config::Finding& finding : *world.snapshot->findings) {
      ASSERT_FALSE(finding.code.empty());
      ASSERT_FALSE(finding.file.empty()) << finding.message;
      ASSERT_LT(finding.message.size(), 1000u);
    }
  }
  world.set("0.yaml", kSeed);
  world.store.forget("x.json");
  world.build();
  EXPECT_EQ(world.endpoints("victim", 50051), "10.0.0.1:50051 10.0.0.2:50051");
}

TEST(Hostile, RandomBytes) {
  std::mt19937 random(7);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (size_t k = random() % 300; k > 0; --k) {
      text += random() % 3 == 0 ? std::string(kPieces[random() % std::size(kPieces)])
                                : std::string(1, static_cast<char>(random()));
    }
    SourceContents contents = read_manifest(text, i % 2 ? "x.json" : "x.yaml");
    EXPECT_TRUE(contents.objects.empty());
  }
}

}  // namespace
}  // namespace weir::kubernetes
