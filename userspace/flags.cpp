#include "flags.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <thread>

#include "interception/cpu_quota.h"

namespace weir {
namespace {

// A pod's name goes into JSON and cannot be anything else.
const CLI::Validator kDnsName(
    [](std::string& text) {
      const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
      };
      return std::all_of(text.begin(), text.end(), allowed) ? std::string() : std::string("it is no DNS name");
    },
    "NAME");

// "10m", "5s", "250ms" -> milliseconds.
const CLI::AsNumberWithUnit kDurationInMs(std::map<std::string, int64_t>{
    {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}});

// More workers than the container may use at once would wait for one another's time.
uint32_t default_workers() {
  const double cpus = interception::cpu_quota().value_or(std::thread::hardware_concurrency());
  return static_cast<uint32_t>(
      std::clamp(std::ceil(std::min<double>(cpus, std::thread::hardware_concurrency())), 1.0, 4.0));
}

}  // namespace

void add_node_flags(CLI::App& app, Flags& flags) {
  flags.node.workers = default_workers();
  app.set_config("--config", "", "File with these flags as key=value lines (TOML)");
  app.add_option("--kubeconfig", flags.kubeconfig,
                 "Kubeconfig of the API server; without it and --manifests: the service account of the agent's pod")
      ->envname("WEIR_KUBECONFIG");
  app.add_option(
         "--manifests", flags.node.manifests,
         "Directory of Kubernetes manifests (YAML or JSON), watched; its objects count more than the API server's")
      ->envname("WEIR_MANIFESTS");
  app.add_option(
         "--watch-silence", flags.watch_silence_ms,
         "How long a watch of the API server may say nothing before it is begun anew (bookmarks come every minute)")
      ->envname("WEIR_WATCH_SILENCE")
      ->transform(kDurationInMs)
      ->check(CLI::PositiveNumber)
      ->default_str("150s");
  app.add_option("--node-name", flags.node.cluster.node_name, "This node's name: its pods are enrolled")
      ->envname("WEIR_NODE_NAME");
  app.add_option("--namespace", flags.node.daemon_set.namespace_name, "Namespace of the agent's pod")
      ->envname("WEIR_NAMESPACE");
  app.add_option("--daemonset", flags.node.daemon_set.name,
                 "DaemonSet that runs the agent: when it is gone at SIGTERM, hooks, links and maps go too")
      ->envname("WEIR_DAEMONSET");
  app.add_option("--pod-name", flags.node.pod_name, "Name of the agent's pod, by which it signs Events")
      ->envname("WEIR_POD_NAME")
      ->check(kDnsName);
  app.add_option("--events", flags.node.events,
                 "Whether objects of the API server that are rejected, in conflict or not enforced get Events (by one "
                 "agent of the cluster, which needs --namespace for its lease)")
      ->envname("WEIR_EVENTS")
      ->default_str("true");
  app.add_option("--zone", flags.node.cluster.zone,
                 "This node's zone (its label topology.kubernetes.io/zone), for the hints of EndpointSlices")
      ->envname("WEIR_ZONE");
  app.add_option("--cluster-domain", flags.node.cluster.cluster_domain, "DNS domain of the cluster")
      ->envname("WEIR_CLUSTER_DOMAIN")
      ->capture_default_str();
  app.add_option(
         "--workers", flags.node.workers,
         "Worker threads, one io_uring each; by default as many as the CPUs that the agent may use, four at most")
      ->envname("WEIR_WORKERS")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--linger", flags.linger_us,
                 "How long a worker that is busy with many connections waits for more before its next turn "
                 "(microseconds; Linux 6.12 and newer; 0: never)")
      ->envname("WEIR_LINGER")
      ->check(CLI::Range(0, 10'000))
      ->capture_default_str();
  app.add_option("--bpf-dir", flags.node.bpf_dir, "Folder of bpffs for pinned maps and links")
      ->envname("WEIR_BPF_DIR")
      ->capture_default_str();
  app.add_option("--run-dir", flags.node.run_dir,
                 "Folder for the admin socket, and for the one by which an agent takes over from another")
      ->envname("WEIR_RUN_DIR")
      ->capture_default_str();
  app.add_option("--cgroup-root", flags.node.cgroup_roots,
                 "Cgroup folder below which pods appear (repeatable); found in /proc/mounts when absent")
      ->envname("WEIR_CGROUP_ROOT");
  app.add_option("--drain-timeout", flags.drain_timeout_ms, "How long running RPCs may take to finish on SIGTERM")
      ->envname("WEIR_DRAIN_TIMEOUT")
      ->transform(kDurationInMs)
      ->default_str("10m");
  using Redirect = interception::RedirectSetting;
  const std::map<std::string, Redirect> redirects{
      {"auto", Redirect::automatic}, {"on", Redirect::on}, {"off", Redirect::off}};
  app.add_option("--redirect", flags.node.redirect,
                 "Bytes of declared HTTP/2 ports go past TCP: where the kernel is fit for it, always, never")
      ->envname("WEIR_REDIRECT")
      ->transform(CLI::CheckedTransformer(redirects).description("{auto,on,off}"))
      ->default_str("auto");
  const std::map<std::string, bool> on_off{{"on", true}, {"off", false}};
  app.add_option("--detect", flags.node.cluster.detect,
                 "The protocol of ports that declare none is told by the first bytes of each connection; off: their "
                 "connections are not diverted")
      ->envname("WEIR_DETECT")
      ->transform(CLI::CheckedTransformer(on_off).description("{on,off}"))
      ->default_str("on");
  app.add_option(
         "--learn-after", flags.node.learning.after,
         "So many connections of a pod to an undeclared port in a row that are not HTTP/2, and the next ones pass "
         "by the agent for a while; 0: never")
      ->envname("WEIR_LEARN_AFTER")
      ->capture_default_str();
  app.add_option("--verdict-lifetime", flags.verdict_lifetime_ms,
                 "For how long, after the last such connection that went through the agent")
      ->envname("WEIR_VERDICT_LIFETIME")
      ->transform(kDurationInMs)
      ->default_str("1m");
  app.add_option("--verdict-sample", flags.node.learning.sample_every,
                 "Meanwhile one connection in so many still goes through the agent; 0: none")
      ->envname("WEIR_VERDICT_SAMPLE")
      ->capture_default_str();
  app.add_option("--pod-max-connections", flags.node.pod_limits.max_connections,
                 "Connections that one pod may have open; the next is reset")
      ->envname("WEIR_POD_MAX_CONNECTIONS")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--pod-max-streams", flags.node.pod_limits.max_streams,
                 "RPCs that one pod may have under way; the next ends as UNAVAILABLE")
      ->envname("WEIR_POD_MAX_STREAMS")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option(
         "--pod-max-memory", flags.node.pod_limits.max_memory,
         "Bytes that may wait in the agent for one pod (KiB, MiB, GiB); beyond, its largest connection is closed")
      ->envname("WEIR_POD_MAX_MEMORY")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::PositiveNumber)
      ->default_str("256MiB");
  app.add_option("--memory-limit", flags.node.memory_limit,
                 "Memory of the agent's container: half of it may wait for pods; beyond, the largest connections are "
                 "closed (KiB, MiB, GiB; 0: no limit)")
      ->envname("WEIR_MEMORY_LIMIT")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("0");
  app.add_option("--send-timeout", flags.send_timeout_ms,
                 "How long a peer may take for what is ready to be sent to it; then its connection is closed")
      ->envname("WEIR_SEND_TIMEOUT")
      ->transform(kDurationInMs)
      ->default_str("30s");
  app.add_option("--stream-idle-timeout", flags.stream_idle_timeout_ms,
                 "How long nothing may move on an RPC before it ends as DEADLINE_EXCEEDED; 0: for ever")
      ->envname("WEIR_STREAM_IDLE_TIMEOUT")
      ->transform(kDurationInMs)
      ->default_str("0");
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
  app.add_option("--access-log", flags.access_log,
                 "Which RPCs are logged: those that failed or carry a flag, all, none")
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

}  // namespace weir
