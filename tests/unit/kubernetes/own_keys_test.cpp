#include "kubernetes/own_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using testing::HasSubstr;

struct Case {
  const char* kind;
  const char* metadata;  // beside the name
  const char* message;   // empty: nothing is wrong
  const char* fix;
};

void PrintTo(const Case& tested, std::ostream* out) { *out << tested.kind << ": " << tested.metadata; }

class OwnKeys : public testing::TestWithParam<Case> {};

TEST_P(OwnKeys, ThatMeanNothingAreTold) {
  const Case& tested = GetParam();
  const std::string kind = tested.kind;
  std::string manifest =
      "{apiVersion: v1, kind: " + kind + ", metadata: {name: x, uid: u, " + tested.metadata + "}, spec: {}}";
  if (kind == "VirtualService") manifest.replace(manifest.find("v1"), 2, "networking.istio.io/v1");
  World world({manifest});
  world.build();
  const auto found = world.findings("WEIR0404");
  ASSERT_EQ(found.size(), *tested.message ? 1u : 0u);
  if (found.empty()) return;
  const bool of_the_cluster = kind == "Namespace" || kind == "Node";
  EXPECT_EQ(found[0].object, kind + (of_the_cluster ? " x" : " default/x"));
  EXPECT_THAT(found[0].message, HasSubstr(tested.message));
  EXPECT_THAT(found[0].fix, HasSubstr(tested.fix));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, OwnKeys,
    testing::Values(Case{"Pod", "labels: {weir.dev/dataplane: enabled}", "", ""},
                    Case{"Namespace", "labels: {weir.dev/dataplane: enabled}, annotations: {weir.dev/redirect: 'off'}",
                         "", ""},
                    Case{"Service", "annotations: {weir.dev/detect: 'off', weir.dev/load-balancing: RANDOM}", "", ""},
                    Case{"VirtualService", "annotations: {weir.dev/idempotent-methods: a.B/C}", "", ""},
                    Case{"Pod", "labels: {other.dev/dataplane: enabled}", "", ""},
                    Case{"Pod", "annotations: {weir.dev/dataplane: enabled}", "the annotation 'weir.dev/dataplane'",
                         "it is the label of a Pod or a Namespace"},
                    Case{"Namespace", "annotations: {weir.dev/exclude-outbound-ports: '80'}", "exclude-outbound-ports",
                         "it is the annotation of a Pod"},
                    Case{"Service", "annotations: {weir.dev/detct: 'off'}", "weir.dev/detct",
                         "a Service has weir.dev/detect, weir.dev/load-balancing, weir.dev/balance-headless"},
                    Case{"Service", "labels: {weir.dev/detect: 'off'}", "the label 'weir.dev/detect'",
                         "it is the annotation of a Service"},
                    Case{"VirtualService", "annotations: {weir.dev/idempotent-method: a.B/C}", "idempotent-method",
                         "a VirtualService has weir.dev/idempotent-methods"},
                    Case{"Node", "labels: {weir.dev/zone: a}", "weir.dev/zone", "remove it"}));

TEST(UnreadKeys, OfAnObjectWithManyAFewAreTold) {
  Metadata metadata;
  for (int i = 0; i < 50; ++i) metadata.labels["weir.dev/k" + std::to_string(i)] = "x";
  EXPECT_EQ(unread_keys({Kind::service, "default", "x"}, metadata).size(), 10u);
}

}  // namespace
}  // namespace weir::kubernetes
