#include "telemetry/labels.h"

#include <gtest/gtest.h>

#include "mesh.h"

namespace weir::telemetry {
namespace {

struct WorkloadCase {
  const char* pod;
  config::Labels labels;
  const char* workload;
};

void PrintTo(const WorkloadCase& tested, std::ostream* out) { *out << '"' << tested.pod << '"'; }

class WorkloadName : public testing::TestWithParam<WorkloadCase> {};

TEST_P(WorkloadName, IsThatOfTheController) {
  EXPECT_EQ(workload_name(GetParam().pod, GetParam().labels), GetParam().workload);
}

INSTANTIATE_TEST_SUITE_P(
    Pods, WorkloadName,
    testing::Values(WorkloadCase{"reviews-v1-7d4b9c8f6d-x2k4z", {{"pod-template-hash", "7d4b9c8f6d"}}, "reviews-v1"},
                    WorkloadCase{"reviews-v1-7d4b9c8f6d-x2k4z", {}, "reviews-v1"},
                    // A hash that is no suffix of the name tells nothing; the shape of the name does.
                    WorkloadCase{"reviews-7d4b9c8f6d-x2k4z", {{"pod-template-hash", "other"}}, "reviews"},
                    WorkloadCase{"web-0", {{"statefulset.kubernetes.io/pod-name", "web-0"}}, "web"},
                    WorkloadCase{"web-0", {{"apps.kubernetes.io/pod-index", "0"}}, "web"},
                    WorkloadCase{"web-0", {}, "web-0"},  // a bare pod may be called so
                    WorkloadCase{"exporter-k8b2x", {{"controller-revision-hash", "5c"}}, "exporter"},
                    WorkloadCase{
                        "backup-28391-abcde", {{"batch.kubernetes.io/job-name", "backup-28391"}}, "backup-28391"},
                    WorkloadCase{"client", {}, "client"},
                    WorkloadCase{"grpc-client", {}, "grpc-client"},  // 'i' and 'e' are in no generated name
                    WorkloadCase{"-x2k4z", {}, "-x2k4z"}, WorkloadCase{"", {}, ""}));

TEST(WorkloadName, OfABackendTakesAnOrdinalForAReplica) {
  EXPECT_EQ(workload_name("greeter-2"), "greeter");
  EXPECT_EQ(workload_name("greeter-58d7c9b6f4-9xkzq"), "greeter");
  EXPECT_EQ(workload_name("greeter"), "greeter");
}

TEST(Labels, OfASourcePod) {
  const Mesh mesh;
  const Source source = source_of(&mesh.client);
  EXPECT_EQ(source.workload, "greeter-client");
  EXPECT_EQ(source.namespace_name, "default");
  EXPECT_EQ(source.app, "greeter-client");
  EXPECT_EQ(source.version, "v2");
  EXPECT_EQ(source.canonical_service, "greeter-client");
  EXPECT_EQ(source.canonical_revision, "v2");
  EXPECT_EQ(source_of(nullptr).workload, "unknown");
}

TEST(Labels, CanonicalNameGoesBeforeTheRecommendedLabelAndApp) {
  config::Pod pod;
  pod.labels = {{"app", "c"}, {"app.kubernetes.io/name", "b"}, {"service.istio.io/canonical-name", "a"}};
  EXPECT_EQ(source_of(&pod).canonical_service, "a");
  pod.labels.erase("service.istio.io/canonical-name");
  EXPECT_EQ(source_of(&pod).canonical_service, "b");
  EXPECT_EQ(source_of(&pod).app, "c");
}

TEST(Labels, OfADestination) {
  const Mesh mesh;
  const Destination to = destination_of(&mesh.service, mesh.cluster.get(), &mesh.cluster->endpoints[1]);
  EXPECT_EQ(to.workload, "greeter");
  EXPECT_EQ(to.workload_namespace, "shop");
  EXPECT_EQ(to.app, "greeter");
  EXPECT_EQ(to.version, "unknown");
  EXPECT_EQ(to.service, "greeter.shop.svc.cluster.local");
  EXPECT_EQ(to.service_name, "greeter");
  EXPECT_EQ(to.service_namespace, "shop");
}

TEST(Labels, WithoutAnEndpointOnlyTheServiceIsKnown) {
  const Mesh mesh;
  const Destination to = destination_of(&mesh.service, mesh.cluster.get(), nullptr);
  EXPECT_EQ(to.workload, "unknown");
  EXPECT_EQ(to.workload_namespace, "unknown");
  EXPECT_EQ(to.service_name, "greeter");
  EXPECT_EQ(destination_of(nullptr, nullptr, nullptr).service, "unknown");
}

TEST(Labels, ADestinationElsewhereIsNamedByItsCluster) {
  const Mesh mesh;
  config::Cluster elsewhere;
  elsewhere.name = "outbound|50051|v1|other.far.svc.cluster.local";
  elsewhere.endpoints.push_back({address("10.9.9.9", 50051), "", ""});
  const Destination to = destination_of(&mesh.service, &elsewhere, &elsewhere.endpoints[0]);
  EXPECT_EQ(to.service, "other.far.svc.cluster.local");
  EXPECT_EQ(to.service_name, "other");
  EXPECT_EQ(to.service_namespace, "far");
  EXPECT_EQ(to.workload, "unknown");
  EXPECT_EQ(to.app, "unknown");  // the dialled service's labels say nothing of it
}

}  // namespace
}  // namespace weir::telemetry
