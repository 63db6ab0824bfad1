// weirctl analyze: the findings about manifest files, in the manner of istioctl analyze.
#include "weirctl/analyze.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <set>

#include "kubernetes/decode.h"
#include "kubernetes/directory_listing.h"
#include "kubernetes/document.h"
#include "kubernetes/findings.h"
#include "kubernetes/manifest_file.h"
#include "kubernetes/object_store.h"
#include "weir/admin_api.h"
#include "weirctl/commands.h"
#include "weirctl/names.h"
#include "weirctl/output.h"
#include "weirctl/table.h"
#include "weirctl/views.h"

namespace weir::weirctl {
namespace {

using config::Finding;
using config::Severity;
using nlohmann::json;
namespace fs = std::filesystem;
namespace key = admin_api::key;

constexpr char kStandardInput[] = "-";

constexpr char kHelp[] =
    "What weir would say of manifests: each finding with its severity, code, object, file, line and likely fix.\n"
    "Files and folders given together are one configuration; - is standard input. Needs no agent and no cluster.";
constexpr char kFooter[] =
    "Exit codes, as istioctl analyze has them: 0 no finding reaches the threshold, 64 wrong usage, 65 a path cannot\n"
    "be read, 79 a finding reaches the threshold (in every output format; a malformed file is a finding, an error).";

// Collects what `paths` hold; each file once, whatever it is called.
class Reading {
 public:
  explicit Reading(kubernetes::ObjectStore& store) : store_(store) {}

  base::Result<void> add(const std::string& path) {
    std::error_code error;
    if (!fs::is_directory(path, error)) return add_file(path);
    std::string root = path;
    while (root.size() > 1 && root.ends_with('/')) root.pop_back();
    const auto listing = kubernetes::list_manifests(root, [](const std::string&) {});
    if (!listing) return listing.error();
    if (!listing.value().unreadable.empty())
      return base::Error{"the directory " + listing.value().unreadable.front() + " cannot be read"};
    store_.set_findings(root, kubernetes::findings_about(root, listing.value()));
    for (const auto& [file, version] : listing.value().files)
      if (auto added = add_file(file); !added) return added;
    return {};
  }

  base::Result<void> add_input(std::istream& input) {
    std::string text(kubernetes::kMaxFileBytes + 1, '\0');
    input.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(input.gcount()));
    if (text.size() > kubernetes::kMaxFileBytes)
      return base::Error{"standard input: " + kubernetes::too_large(text.size())};
    seen_.insert(kStandardInput);
    add_text(text, kStandardInput);
    return {};
  }

  size_t files() const { return seen_.size(); }

 private:
  base::Result<void> add_file(const std::string& file) {
    std::error_code error;
    if (!seen_.insert(fs::weakly_canonical(file, error).string()).second) return {};
    auto text = kubernetes::read_file(file);
    if (!text) return base::Error{file + ": " + text.error().message};
    add_text(text.value(), file);
    return {};
  }

  void add_text(const std::string& text, const std::string& name) {
    store_.replace(name, kubernetes::read_manifest(text, name));
  }

  kubernetes::ObjectStore& store_;
  std::set<std::string> seen_;
};

// "Kind NAMESPACE/NAME" or "Namespace NAME". What is about no object is about all namespaces.
bool is_in(const Finding& finding, const std::string& namespace_name) {
  const size_t blank = finding.object.find(' ');
  if (namespace_name.empty() || blank == std::string::npos) return true;
  const std::string name = finding.object.substr(blank + 1);
  return name == namespace_name || name.starts_with(namespace_name + "/");
}

std::string counted(size_t number, const std::string& what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

struct Options {
  std::vector<std::string> paths;
  kubernetes::ClusterSettings cluster;
  Severity threshold = Severity::error;
};

int run(const Settings& settings, const Options& options) {
  Analysis analysis;
  const auto fetch = [&]() -> base::Result<json> {
    auto result = analyze(options.paths, options.cluster, std::cin);
    if (!result) return result.error();
    analysis = std::move(result).value();
    std::erase_if(analysis.findings, [&](const Finding& finding) { return !is_in(finding, settings.namespace_name); });
    json shown = json::array();
    for (const Finding& finding : analysis.findings) shown.push_back(kubernetes::to_json(finding));
    return shown;
  };
  if (const int shown = show(settings, fetch, render_analysis); shown != kOk) return shown;
  if (analysis.findings.empty())
    std::cerr << "No findings in " << counted(analysis.objects, "object") << " of " << counted(analysis.files, "file")
              << ".\n";
  const bool failed = std::any_of(analysis.findings.begin(), analysis.findings.end(),
                                  [&](const Finding& finding) { return finding.severity >= options.threshold; });
  return failed ? kFindings : kOk;
}

}  // namespace

base::Result<Analysis> analyze(const std::vector<std::string>& paths, const kubernetes::ClusterSettings& settings,
                               std::istream& input) {
  kubernetes::ObjectStore store;
  Reading reading(store);
  for (const std::string& path : paths) {
    const auto added = path == kStandardInput ? reading.add_input(input) : reading.add(path);
    if (!added) return added.error();
  }
  const auto snapshot = kubernetes::Translator(settings).build(store, nullptr);
  return Analysis{reading.files(), store.size(), *snapshot->findings};
}

std::string render_analysis(const json& findings, bool, bool color) {
  std::string out;
  for (const json& finding : findings) {
    std::string severity = text_of(finding, key::severity);
    const Tone tone = severity == "error" ? Tone::bad : severity == "warning" ? Tone::warn : Tone::plain;
    severity[0] = static_cast<char>(severity[0] - 'a' + 'A');
    std::string about = text_of(finding, key::object);
    if (const std::string file = text_of(finding, key::file); !file.empty())
      about += (about.empty() ? "" : ", ") + file;
    if (finding.value(key::line, 0) > 0) about += ":" + text_of(finding, key::line);
    const std::string fix = text_of(finding, key::fix);
    out += toned(severity, tone, color) + " [" + text_of(finding, key::code) + "] (" + printable(about) + ") " +
           printable(text_of(finding, key::message) + (fix.empty() ? "" : "; likely fix: " + fix)) + "\n";
  }
  return out;
}

void add_analyze(CLI::App& app, Session& session) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(app, session, "analyze", "The findings about manifest files, without an agent",
                                  [&session, options] { return run(session.settings, *options); });
  command->footer(std::string(kHelp) + "\n" + kFooter);
  command->add_option("path", options->paths, "FILE, DIR or -")->required();
  const std::map<std::string, Severity> severities{
      {"info", Severity::info}, {"warning", Severity::warning}, {"error", Severity::error}};
  command->add_option("--failure-threshold", options->threshold, "The least severity that makes the exit code 79")
      ->transform(CLI::CheckedTransformer(severities, CLI::ignore_case))
      ->type_name("LEVEL")
      ->option_text("LEVEL (info|warning|error) [error]");
  command->add_option("--cluster-domain", options->cluster.cluster_domain, "DNS domain of the cluster")
      ->envname("WEIR_CLUSTER_DOMAIN")
      ->capture_default_str();
  command->add_option("--node-name", options->cluster.node_name, "As for the agent of this node (default: any node)");
}

}  // namespace weir::weirctl
