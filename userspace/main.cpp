// weir-agent: flags, wiring, run, drain.
#include <signal.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <thread>

#include "base/log.h"
#include "control/node.h"
#include "telemetry/access_log.h"

namespace {

using namespace weir;

constexpr int kExitUsage = 64, kExitFailure = 1;

// "10m", "5s", "250ms" -> milliseconds.
const CLI::AsNumberWithUnit kDurationInMs(std::map<std::string, int64_t>{
    {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}});

struct Flags {
  control::NodeOptions node;
  int64_t drain_timeout_ms = 600'000;
  std::string run_dir = "/run/weir";
  std::string metrics_address = "0.0.0.0:15020";
  std::string log_level = "info";
  std::string log_format = "text";
  std::string access_log = "failed";
  std::string access_log_path = "-";
  std::string access_log_format = "text";
};

uint32_t default_workers() { return std::max(1u, std::min(4u, std::thread::hardware_concurrency())); }

void add_node_flags(CLI::App& app, Flags& flags) {
  app.add_option("--manifests", flags.node.manifests, "Directory of Kubernetes manifests (YAML or JSON), watched")
      ->envname("WEIR_MANIFESTS")
      ->required();
  app.add_option("--node-name", flags.node.cluster.node_name, "This node's name: its pods are enrolled")
      ->envname("WEIR_NODE_NAME");
  app.add_option("--cluster-domain", flags.node.cluster.cluster_domain, "DNS domain of the cluster")
      ->envname("WEIR_CLUSTER_DOMAIN")
      ->capture_default_str();
  app.add_option("--workers", flags.node.workers, "Worker threads, one io_uring each")
      ->envname("WEIR_WORKERS")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--bpf-dir", flags.node.bpf_dir, "Folder of bpffs for pinned maps and links")
      ->envname("WEIR_BPF_DIR")
      ->capture_default_str();
  app.add_option("--run-dir", flags.run_dir, "Folder for the admin socket (admin.sock)")
      ->envname("WEIR_RUN_DIR")
      ->capture_default_str();
  app.add_option("--cgroup-root", flags.node.cgroup_roots,
                 "Cgroup folder below which pods appear (repeatable); found in /proc/mounts when absent")
      ->envname("WEIR_CGROUP_ROOT");
  app.add_option("--drain-timeout", flags.drain_timeout_ms, "How long running RPCs may take to finish on SIGTERM")
      ->envname("WEIR_DRAIN_TIMEOUT")
      ->transform(kDurationInMs)
      ->default_str("10m");
  app.add_option("--metrics-address", flags.metrics_address, "IP:port for /metrics, /healthz and /readyz; port 0: none")
      ->envname("WEIR_METRICS_ADDRESS")
      ->capture_default_str();
  app.add_option("--log-level", flags.log_level, "trace, debug, info, warn, error or off")
      ->envname("WEIR_LOG_LEVEL")
      ->capture_default_str();
  app.add_option("--log-format", flags.log_format, "Form of the agent's own log")
      ->envname("WEIR_LOG_FORMAT")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_option("--access-log", flags.access_log, "Which RPCs are logged: those that failed or carry a flag, all, none")
      ->envname("WEIR_ACCESS_LOG")
      ->check(CLI::IsMember({"failed", "all", "off"}))
      ->capture_default_str();
  app.add_option("--access-log-path", flags.access_log_path, "File of the access log; - is stdout")
      ->envname("WEIR_ACCESS_LOG_PATH")
      ->capture_default_str();
  app.add_option("--access-log-format", flags.access_log_format, "Istio's text format, or its JSON keys")
      ->envname("WEIR_ACCESS_LOG_FORMAT")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

// Every pod brings sockets: take what the hard limit gives.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int fail(const base::Error& error) {
  base::log::critical("{}", error.message);
  base::stop_logging();
  return kExitFailure;
}

// The threads that exist from here on inherit the mask: the control thread alone takes these signals.
void block_termination_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int run_node(Flags flags) {
  const auto format = flags.log_format == "json" ? base::LogFormat::json : base::LogFormat::text;
  block_termination_signals();
  if (auto logging = base::start_logging(flags.log_level, format); !logging) {
    std::cerr << "weir-agent: --log-level: " << logging.error().message << "\n";
    return kExitUsage;
  }
  raise_descriptor_limit();

  telemetry::AccessLogOptions log_options;
  log_options.mode = *telemetry::parse_log_mode(flags.access_log);
  log_options.format = *telemetry::parse_line_format(flags.access_log_format);
  if (flags.access_log_path != "-") log_options.path = flags.access_log_path;
  auto access_log = telemetry::AccessLog::open(log_options);
  if (!access_log) return fail(access_log.error());
  std::vector<std::unique_ptr<telemetry::Recorder>> recorders;
  for (uint32_t i = 0; i < flags.node.workers; ++i)
    recorders.push_back(std::make_unique<telemetry::Recorder>(**access_log));

  flags.node.drain_timeout = std::chrono::milliseconds(flags.drain_timeout_ms);
  auto node = control::Node::start(flags.node, recorders);
  if (!node) return fail(node.error());

  (*node)->run();
  node->reset();
  base::log::info("ended");
  base::stop_logging();
  return 0;
}

int uninstall(const std::string& bpf_dir) {
  if (auto removed = interception::Programs::uninstall(bpf_dir); !removed) {
    std::cerr << "weir-agent: " << removed.error().message << "\n";
    return kExitFailure;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"weir balances every RPC of this node's pods"};
  app.require_subcommand(1);
  app.set_version_flag("--version", WEIR_VERSION);

  Flags flags;
  flags.node.workers = default_workers();
  CLI::App& node = *app.add_subcommand("node", "Run the agent of this node");
  node.set_config("--config", "", "File with these flags as key=value lines (TOML)");
  add_node_flags(node, flags);

  std::string bpf_dir = flags.node.bpf_dir;
  CLI::App& remove = *app.add_subcommand("uninstall", "Take hooks, links and maps out of the kernel");
  remove.add_option("--bpf-dir", bpf_dir, "Folder of bpffs with the pins")->envname("WEIR_BPF_DIR")->capture_default_str();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kExitUsage;
  }
  return node.parsed() ? run_node(flags) : uninstall(bpf_dir);
}
