// weir-agent: flags, wiring, run, drain.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <iostream>

#include "admin/server.h"
#include "base/log.h"
#include "control/node.h"
#include "flags.h"
#include "proxy/heap.h"
#include "telemetry/access_log.h"
#include "wiring.h"

namespace {

using namespace weir;

constexpr int kExitUsage = 64, kExitFailure = 1;

// Every pod brings sockets: take what the hard limit gives. Returns the limit, 0 if there is none.
uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlimit raised{limit.rlim_max, limit.rlim_max};
  if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  return limit.rlim_cur == RLIM_INFINITY ? 0 : limit.rlim_cur;
}

base::Result<void> make_run_dir(const std::string& run_dir) {
  if (mkdir(run_dir.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return base::system_error("mkdir " + run_dir, errno);
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

// Where the configuration comes from besides the manifests.
base::Result<std::optional<kubernetes::ApiAccess>> api_access(const Flags& flags) {
  if (flags.kubeconfig.empty() && !flags.node.manifests.empty()) return std::optional<kubernetes::ApiAccess>();
  if (flags.node.cluster.node_name.empty())
    return base::Error{"--node-name is missing: the API server is asked for the pods of that node"};
  auto access =
      flags.kubeconfig.empty() ? kubernetes::in_cluster_access() : kubernetes::kubeconfig_access(flags.kubeconfig);
  if (!access) return access.error();
  return std::optional(std::move(*access));
}

int run_node(Flags flags) {
  const auto format = flags.log_format == "json" ? base::LogFormat::json : base::LogFormat::text;
  block_termination_signals();
  if (auto logging = base::start_logging(flags.log_level, format); !logging) {
    std::cerr << "weir-agent: --log-level: " << logging.error().message << "\n";
    return kExitUsage;
  }
  flags.node.descriptor_limit = raise_descriptor_limit();
  proxy::set_up_heap(flags.node.workers);
  auto api = api_access(flags);
  if (!api) {
    std::cerr << "weir-agent: " << api.error().message << "\n";
    base::stop_logging();
    return kExitUsage;
  }
  flags.node.api = std::move(*api);
  flags.node.user_agent = "weir-agent/" WEIR_VERSION;
  flags.node.reflector.watch_silence = std::chrono::milliseconds(flags.watch_silence_ms);
  if (auto made = make_run_dir(flags.node.run_dir); !made) return fail(made.error());

  telemetry::AccessLogOptions log_options;
  log_options.mode = *telemetry::parse_log_mode(flags.access_log);
  log_options.format = *telemetry::parse_line_format(flags.access_log_format);
  if (flags.access_log_path != "-") log_options.path = flags.access_log_path;
  auto access_log = telemetry::AccessLog::open(log_options);
  if (!access_log) return fail(access_log.error());
  std::vector<std::unique_ptr<telemetry::Recorder>> recorders;
  for (uint32_t i = 0; i < flags.node.workers; ++i)
    recorders.push_back(std::make_unique<telemetry::Recorder>(**access_log));

  flags.node.linger = std::chrono::microseconds(flags.linger_us);
  flags.node.drain_timeout = std::chrono::milliseconds(flags.drain_timeout_ms);
  flags.node.send_timeout = std::chrono::milliseconds(flags.send_timeout_ms);
  flags.node.stream_idle_timeout = std::chrono::milliseconds(flags.stream_idle_timeout_ms);
  flags.node.learning.lifetime = std::chrono::milliseconds(flags.verdict_lifetime_ms);
  auto node = control::Node::start(flags.node, recorders);
  if (!node) return fail(node.error());

  telemetry::Metrics metrics;
  for (const auto& recorder : recorders) metrics.watch(*recorder);
  metrics.watch(**access_log);
  const auto port = std::make_shared<admin::PortCounters>();
  add_agent_metrics(metrics, **node, port);
  auto server = admin::Server::start({flags.node.run_dir, flags.metrics_address},
                                     admin_sources(**node, flags.node, metrics, **access_log, port));
  if (!server) return fail(server.error());

  (*node)->run();
  const bool uninstalled = (*node)->uninstalled();
  server->reset();
  node->reset();
  if (uninstalled) {
    base::log::info("weir is being uninstalled: hooks, links and maps go with the agent");
    if (auto removed = interception::Programs::uninstall(flags.node.bpf_dir); !removed) return fail(removed.error());
  }
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
  CLI::App& node = *app.add_subcommand("node", "Run the agent of this node");
  add_node_flags(node, flags);

  std::string bpf_dir = flags.node.bpf_dir;
  CLI::App& remove = *app.add_subcommand("uninstall", "Take hooks, links and maps out of the kernel");
  remove.add_option("--bpf-dir", bpf_dir, "Folder of bpffs with the pins")
      ->envname("WEIR_BPF_DIR")
      ->capture_default_str();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kExitUsage;
  }
  return node.parsed() ? run_node(flags) : uninstall(bpf_dir);
}
