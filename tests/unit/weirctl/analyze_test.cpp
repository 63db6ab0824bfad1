// weirctl analyze: what it prints of files and folders, and its exit codes.
#include "weirctl/analyze.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "weirctl/commands.h"
#include "weirctl/output.h"

namespace weir::weirctl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

const std::string kMission = WEIR_SOURCE_DIR "/tests/unit/kubernetes/data/mission/";

struct Outcome {
  int exit = 0;
  std::string out, err;
};

// The command as main() runs it.
Outcome run(std::vector<std::string> arguments, Settings settings = {}, const std::string& input = {}) {
  CLI::App app;
  Session session;
  session.settings = std::move(settings);
  add_analyze(app, session);
  arguments.insert(arguments.begin(), "analyze");
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  std::istringstream in(input);
  std::streambuf* const before = std::cin.rdbuf(in.rdbuf());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Outcome outcome;
  try {
    app.parse(arguments);
    outcome.exit = session.run();
  } catch (const CLI::ParseError& error) {
    outcome.exit = kUsage;
    std::cerr << error.what();
  }
  std::cin.rdbuf(before);
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

// The lines, files without their folder. Left out: what is only a matter of time ("not applied yet"), and the
// clusterIPs that the mission's Services leave to the API server.
std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (const size_t at = line.find(kMission); at != std::string::npos) line.erase(at, kMission.size());
    bool left_out = false;
    for (const char* code : {"[WEIR0201]", "[WEIR0302]", "[WEIR0501]", "[WEIR0502]"})
      left_out = left_out || line.find(code) != std::string::npos;
    if (!left_out) lines.push_back(line);
  }
  return lines;
}

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("weirctl-analyze-" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string write(const std::string& name, const std::string& text) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return path_ / name;
  }
  std::string path() const { return path_; }

 private:
  fs::path path_;
};

constexpr char kGood[] =
    "apiVersion: v1\nkind: Service\nmetadata: {name: good}\n"
    "spec: {clusterIP: 10.96.0.1, ports: [{name: grpc, port: 80}]}\n";
constexpr char kSecurity[] =
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny, namespace: shop}\n";

TEST(Analyze, SaysOfEachFileOfTheMissionWhatIsWrongWithIt) {
  const struct {
    const char* file;
    std::vector<std::string> lines;
  } kCases[] = {
      {"destinationrule-pool.yaml",
       {"Warning [WEIR0204] (DestinationRule default/http2-connection-pool, destinationrule-pool.yaml:1) there is no "
        "API group networking.io; taken for networking.istio.io; likely fix: write apiVersion: networking.istio.io/v1",
        "Warning [WEIR0504] (DestinationRule default/http2-connection-pool, destinationrule-pool.yaml:1) its host "
        "'grpc-service.default.svc.cluster.local' is no Service: it applies to nothing; likely fix: create the "
        "Service, or correct the host"}},
      {"destinationrule-subsets.yaml",
       {"Warning [WEIR0504] (DestinationRule default/grpc-service-dr, destinationrule-subsets.yaml:1) its host "
        "'grpc-service.default.svc.cluster.local' is no Service: it applies to nothing; likely fix: create the "
        "Service, or correct the host"}},
      {"gateway.yaml", {}},
      {"service-generic.yaml",
       {"Info [WEIR0301] (Service default/api-service, service-generic.yaml:10) the protocol of port 9000 'api-port' "
        "is not declared: it is detected from the first bytes of each connection; likely fix: declare it: appProtocol: "
        "grpc, or a port name "
        "such as grpc-api"}},
      {"service-grpc.yaml", {}},
      {"service-http2.yaml", {}},
      {"service-table.yaml",
       {"Info [WEIR0301] (Service default/table-generic, service-table.yaml:21) the protocol of port 9090 'api-port' "
        "is not declared: it is detected from the first bytes of each connection; likely fix: declare it: appProtocol: "
        "grpc, or a port name "
        "such as grpc-api"}},
      {"virtualservice-canary.yaml",
       {"Warning [WEIR0504] (VirtualService default/grpc-canary, virtualservice-canary.yaml:1) its host "
        "'grpc-service.default.svc.cluster.local' is no Service: no call is dialled to it; likely fix: create the "
        "Service, or correct the host",
        "Warning [WEIR0504] (VirtualService default/grpc-canary, virtualservice-canary.yaml:12) it routes to "
        "'grpc-service.default.svc.cluster.local', which is no Service: these calls fail (NC); likely fix: create the "
        "Service, or correct the host"}},
      {"virtualservice-ingress.yaml",
       {"Info [WEIR0513] (VirtualService default/grpc-ingress, virtualservice-ingress.yaml:10) all its rules are for "
        "gateways, which weir does not serve yet: it has no part in the mesh"}},
      {"virtualservice-retries.yaml",
       {"Warning [WEIR0504] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:1) its host "
        "'grpc-service.default.svc.cluster.local' is no Service: no call is dialled to it; likely fix: create the "
        "Service, or correct the host",
        "Warning [WEIR0205] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:12) the host "
        "'grpc-service.default.svc.cluster.cluster.local' names no service: it has 'cluster' twice; likely fix: write "
        "'grpc-service.default.svc.cluster.local'",
        "Warning [WEIR0504] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:12) it routes to "
        "'grpc-service.default.svc.cluster.cluster.local', which is no Service: these calls fail (NC); likely fix: "
        "create the Service, or correct the host",
        "Warning [WEIR0512] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:18) its retries may "
        "repeat calls that a server has processed already, and no method is declared idempotent: all are repeated; "
        "likely fix: list the methods that may run twice in the annotation weir.dev/idempotent-methods "
        "(pkg.Service/Method, between commas); the others are then repeated only if no server has seen them"}},
      {"",
       {"Warning [WEIR0204] (DestinationRule default/http2-connection-pool, destinationrule-pool.yaml:1) there is no "
        "API group networking.io; taken for networking.istio.io; likely fix: write apiVersion: networking.istio.io/v1",
        "Info [WEIR0301] (Service default/api-service, service-generic.yaml:10) the protocol of port 9000 'api-port' "
        "is not declared: it is detected from the first bytes of each connection; likely fix: declare it: appProtocol: "
        "grpc, or a port name "
        "such as grpc-api",
        "Info [WEIR0301] (Service default/table-generic, service-table.yaml:21) the protocol of port 9090 'api-port' "
        "is not declared: it is detected from the first bytes of each connection; likely fix: declare it: appProtocol: "
        "grpc, or a port name "
        "such as grpc-api",
        "Info [WEIR0513] (VirtualService default/grpc-ingress, virtualservice-ingress.yaml:10) all its rules are for "
        "gateways, which weir does not serve yet: it has no part in the mesh",
        "Warning [WEIR0506] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:1) the host "
        "'grpc-service.default.svc.cluster.local' belongs to VirtualService default/grpc-canary already, which is "
        "older or comes first by name: for clients that see both, none of these rules applies; likely fix: put the "
        "rules into one VirtualService",
        "Warning [WEIR0205] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:12) the host "
        "'grpc-service.default.svc.cluster.cluster.local' names no service: it has 'cluster' twice; likely fix: write "
        "'grpc-service.default.svc.cluster.local'",
        "Warning [WEIR0504] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:12) it routes to "
        "'grpc-service.default.svc.cluster.cluster.local', which is no Service: these calls fail (NC); likely fix: "
        "write 'grpc-service.default.svc.cluster.local'",
        "Warning [WEIR0512] (VirtualService default/grpc-with-retries, virtualservice-retries.yaml:18) its retries may "
        "repeat calls that a server has processed already, and no method is declared idempotent: all are repeated; "
        "likely fix: list the methods that may run twice in the annotation weir.dev/idempotent-methods "
        "(pkg.Service/Method, between commas); the others are then repeated only if no server has seen them"}},
  };
  for (const auto& c : kCases) {
    const Outcome outcome = run({kMission + c.file});
    EXPECT_THAT(lines_of(outcome.out), testing::ElementsAreArray(c.lines)) << c.file;
    EXPECT_EQ(outcome.exit, kOk) << c.file;
  }
}

TEST(Analyze, OtherSlipsHaveLineAndLikelyFixToo) {
  const std::string slips = std::string(kGood) + R"(---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: canary}
spec:
  hosts: [good]
  http:
  - route:
    - destination: {host: good, subset: v1}
      weight: 90
    - destination: {host: good, subset: v1}
      weight: 10
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: numbers}
spec:
  hosts: [good]
  http:
  - route: [{destination: {host: good}}]
    headers:
      request:
        set:
          x-version: 1
)";
  const Outcome outcome = run({"-"}, {}, slips);
  EXPECT_THAT(
      lines_of(outcome.out),
      testing::ElementsAre(
          "Error [WEIR0505] (VirtualService default/canary, -:13) it routes to the subset 'v1' of "
          "'good.default.svc.cluster.local', which no DestinationRule defines: these calls fail (NC); likely fix: "
          "define the subset in a DestinationRule for the host",
          "Warning [WEIR0511] (VirtualService default/canary, -:15) the route goes to 'good', subset 'v1', twice: the "
          "weights add up; likely fix: name another subset in one of them",
          "Error [WEIR0101] (VirtualService default/numbers, -:28) spec.http[0].headers.request.set.x-version is an "
          "integer where a string is expected; object rejected; likely fix: quote it: \"1\""));
  EXPECT_EQ(outcome.exit, kFindings);
}

TEST(Analyze, FilesOfAFolderAreOneConfiguration) {
  const Folder folder;
  folder.write("service.yaml", kGood);
  folder.write("deep/er/route.json",
               R"({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v"},
                   "spec": {"hosts": ["good"], "http": [{"route": [{"destination": {"host": "good"}}]}]}})");
  folder.write("notes.txt", "not: [a manifest");
  folder.write(".hidden.yaml", "not: [a manifest");
  const Outcome outcome = run({folder.path() + "/"});
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "No findings in 2 objects of 2 files.\n");
  EXPECT_EQ(outcome.exit, kOk);
  // The route alone leads nowhere.
  EXPECT_THAT(run({folder.path() + "/deep"}).out, HasSubstr("[WEIR0504] (VirtualService default/v, " + folder.path()));
}

TEST(Analyze, AFileThatIsNamedTwiceCountsOnce) {
  const Folder folder;
  const std::string file = folder.write("service.yaml", kGood);
  const Outcome outcome =
      run({folder.path(), file, folder.path() + "/../" + fs::path(folder.path()).filename().string()});
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err, "No findings in 1 object of 1 file.\n");
  folder.write("again.yaml", kGood);
  EXPECT_THAT(run({folder.path()}).out, HasSubstr("Warning [WEIR0105] (Service default/good, "));
}

TEST(Analyze, ReadsStandardInput) {
  const Outcome good = run({"-"}, {}, kGood);
  EXPECT_EQ(good.err, "No findings in 1 object of 1 file.\n");
  const Outcome bad = run({"-"}, {}, "kind: [\n");
  EXPECT_THAT(bad.out, HasSubstr("Error [WEIR0004] (-:"));
  EXPECT_EQ(bad.exit, kFindings);
  EXPECT_EQ(run({"-"}, {}, std::string((size_t{4} << 20) + 1, ' ')).exit, kData);
}

TEST(Analyze, TheThresholdDecidesAboutTheExitCode) {
  const Folder folder;
  const std::string info = kMission + "service-generic.yaml", warning = kMission + "destinationrule-pool.yaml";
  const std::string error = folder.write("security.yaml", kSecurity);
  const struct {
    std::vector<std::string> arguments;
    int exit;
  } kCases[] = {
      {{info}, kOk},
      {{warning}, kOk},
      {{error}, kFindings},
      {{info, error}, kFindings},
      {{info, "--failure-threshold", "info"}, kFindings},
      {{info, "--failure-threshold", "Warning"}, kOk},
      {{warning, "--failure-threshold", "Warning"}, kFindings},
      {{warning, "--failure-threshold=Error"}, kOk},
      {{info, "--failure-threshold", "loud"}, kUsage},
      {{}, kUsage},
      {{folder.path() + "/none.yaml"}, kData},
      {{error, folder.path() + "/none.yaml"}, kData},
  };
  for (const auto& c : kCases) {
    const Outcome outcome = run(c.arguments);
    EXPECT_EQ(outcome.exit, c.exit) << testing::PrintToString(c.arguments) << outcome.err;
    EXPECT_EQ(outcome.err.find("none.yaml") != std::string::npos, c.exit == kData) << outcome.err;
  }
}

TEST(Analyze, JsonIsAnArrayOfFindings) {
  Settings settings;
  settings.format = Format::json;
  const Outcome outcome = run({kMission + "service-generic.yaml"}, settings);
  const json findings = json::parse(outcome.out);
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[1], json({{"code", "WEIR0301"},
                               {"severity", "info"},
                               {"file", kMission + "service-generic.yaml"},
                               {"line", 10},
                               {"object", "Service default/api-service"},
                               {"message",
                                "the protocol of port 9000 'api-port' is not declared: it is detected from the first "
                                "bytes of each connection"},
                               {"fix", "declare it: appProtocol: grpc, or a port name such as grpc-api"}}));
  EXPECT_EQ(run({"-"}, settings, kGood).out, "[]\n");
}

TEST(Analyze, ANamespaceNarrowsDownWhatIsShownAndCounted) {
  const Folder folder;
  folder.write("security.yaml", kSecurity);
  Settings settings;
  settings.namespace_name = "shop";
  EXPECT_EQ(run({folder.path()}, settings).exit, kFindings);
  settings.namespace_name = "sho";
  EXPECT_EQ(run({folder.path()}, settings).exit, kOk);
}

TEST(Analyze, TheClusterDomainCompletesHosts) {
  const Folder folder;
  folder.write("all.yaml", std::string(kGood) +
                               "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\n"
                               "spec: {host: good.default.svc.corp.example}\n");
  EXPECT_THAT(run({folder.path()}).out, HasSubstr("WEIR0504"));
  EXPECT_EQ(run({folder.path(), "--cluster-domain", "corp.example"}).out, "");
}

TEST(Analyze, ControlCharactersOfManifestsDoNotReachTheTerminal) {
  const Outcome outcome = run({"-"}, {}, "apiVersion: v1\nkind: Service\nmetadata: {name: \"a\\eb\"}\n");
  EXPECT_THAT(outcome.out, HasSubstr("WEIR0103"));
  EXPECT_THAT(outcome.out, testing::Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace weir::weirctl
