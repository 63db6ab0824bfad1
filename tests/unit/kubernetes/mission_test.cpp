// The manifests that the mission names, as their author wrote them.
#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using config::Mode;
using testing::HasSubstr;

std::string mission(const std::string& name) {
  return file_text(WEIR_SOURCE_DIR "/tests/unit/kubernetes/data/mission/" + name);
}

TEST(Mission, EveryFileLoads) {
  struct Case {
    const char* file;
    size_t objects;
    const char* codes;
  };
  const Case kCases[] = {
      {"service-grpc.yaml", 1, ""},
      {"service-http2.yaml", 1, ""},
      {"service-generic.yaml", 1, ""},
      {"service-table.yaml", 3, ""},
      {"virtualservice-canary.yaml", 1, ""},
      {"virtualservice-ingress.yaml", 1, "WEIR0513"},
      {"virtualservice-retries.yaml", 1, "WEIR0205 WEIR0512"},
      {"destinationrule-subsets.yaml", 1, ""},
      {"destinationrule-pool.yaml", 1, "WEIR0204"},
      {"gateway.yaml", 0, "WEIR0201"},
  };
  for (const Case& c : kCases) {
    std::string text = mission(c.file);
    ASSERT_FALSE(text.empty()) << c.file;
    SourceContents contents = read_manifest(text, c.file);
    EXPECT_EQ(contents.objects.size(), c.objects) << c.file;
    EXPECT_TRUE(contents.complete) << c.file;
    EXPECT_TRUE(contents.rejected.empty()) << c.file;
    EXPECT_EQ(codes(contents.findings), c.codes) << c.file << testing::PrintToString(contents);
  }
}

TEST(Mission, TheSlipsAreReportedWithTheirFix) {
  SourceContents pool = read_manifest(mission("destinationrule-pool.yaml"), "pool.yaml");
  ASSERT_EQ(pool.findings.size(), 1u);
  const config::Finding& group = pool.findings.back();
  EXPECT_EQ(group.code, "WEIR0204");
  EXPECT_EQ(group.severity, config::Severity::warning);
  EXPECT_EQ(group.file, "pool.yaml");
  EXPECT_EQ(group.line, 1);
  EXPECT_EQ(group.object, "DestinationRule default/http2-connection-pool");
  EXPECT_THAT(group.fix, HasSubstr("networking.istio.io/v1"));

  SourceContents retries = read_manifest(mission("virtualservice-retries.yaml"), "retries.yaml");
  ASSERT_EQ(retries.findings.size(), 2u);
  const config::Finding& finding = retries.findings[0];
  EXPECT_EQ(finding.code, "WEIR0205");
  EXPECT_EQ(finding.line, 12);
  EXPECT_EQ(finding.object, "VirtualService default/grpc-with-retries");
  EXPECT_THAT(finding.fix, HasSubstr("grpc-service.default.svc.cluster.local"));
}

TEST(Mission, PortsAreWhatTheTableSays) {
  World world({mission("service-grpc.yaml"), mission("service-http2.yaml"), mission("service-generic.yaml"),
               mission("service-table.yaml")});
  world.build();
  const std::tuple<const char*, uint16_t, Mode, const char*> kPorts[] = {
      {"grpc-service", 50051, Mode::l7, "appProtocol grpc"},
      {"http2-service", 8080, Mode::l7, "port name http2-web"},
      {"api-service", 9000, Mode::detect, "port name api-port declares no known protocol"},
      {"table-grpc", 50051, Mode::l7, "appProtocol grpc"},
      {"table-http2", 8080, Mode::l7, "appProtocol h2"},
      {"table-generic", 9090, Mode::detect, "port name api-port declares no known protocol"},
  };
  for (const auto& [name, port, mode, reason] : kPorts) {
    ASSERT_NE(world.service(name), nullptr) << name;
    const config::ServicePort* found = world.service(name)->find_port(port);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->mode, mode) << name;
    EXPECT_EQ(found->mode_reason, reason) << name;
  }
  EXPECT_EQ(world.snapshot->services.size(), 6u);
}

TEST(Mission, AnUndeclaredProtocolIsReported) {
  World world({mission("service-generic.yaml")});
  world.build();
  ASSERT_EQ(world.findings("WEIR0301").size(), 1u);
  const config::Finding finding = world.findings("WEIR0301")[0];
  EXPECT_EQ(finding.severity, config::Severity::info);
  EXPECT_EQ(finding.object, "Service default/api-service");
  EXPECT_EQ(finding.file, "0.yaml");
  EXPECT_EQ(finding.line, 10);
  EXPECT_THAT(finding.fix, HasSubstr("appProtocol"));
}

}  // namespace
}  // namespace weir::kubernetes
