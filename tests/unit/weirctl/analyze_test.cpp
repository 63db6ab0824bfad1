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

std::string without(std::string text, const std::string& part) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.erase(at, part.size());
  return text;
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
    const char* lines;
  } kCases[] = {
#include "analyze_mission.inc"
  };
  for (const auto& c : kCases) {
    const Outcome outcome = run({kMission + c.file});
    EXPECT_EQ(without(outcome.out, kMission), c.lines) << c.file;
  }
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
  const Outcome outcome = run({folder.path(), file, folder.path() + "/../" + fs::path(folder.path()).filename().string()});
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
    if (c.exit == kData) EXPECT_THAT(outcome.err, HasSubstr("none.yaml"));
  }
}

TEST(Analyze, JsonIsAnArrayOfFindings) {
  Settings settings;
  settings.format = Format::json;
  const Outcome outcome = run({kMission + "gateway.yaml"}, settings);
  const json findings = json::parse(outcome.out);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0], json({{"code", "WEIR0201"},
                               {"severity", "warning"},
                               {"file", kMission + "gateway.yaml"},
                               {"line", 1},
                               {"object", "Gateway default/grpc-gateway"},
                               {"message", "Gateway is not applied yet: nothing listens on its ports"},
                               {"fix", ""}}));
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
