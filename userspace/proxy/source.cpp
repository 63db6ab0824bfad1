#include "proxy/source.h"

#include "proxy/worker.h"

namespace weir::proxy {
namespace {
// What waits for a pod refers to receive buffers up to here: four times as much may then be pinned, half of what
// a worker has.
constexpr int64_t kUncopied = 16 << 20;
}  // namespace

Source::Source(Worker& worker, interception::EnrolledPod enrolled) : worker_(worker), enrolled_(std::move(enrolled)) {
  if (enrolled_.listener_v4) listener_v4_ = std::make_unique<Listener>(worker, *this, std::move(enrolled_.listener_v4));
  if (enrolled_.listener_v6) listener_v6_ = std::make_unique<Listener>(worker, *this, std::move(enrolled_.listener_v6));
}

Source::~Source() { unlink(); }

void Source::update(std::shared_ptr<const config::Pod> pod) { enrolled_.pod = std::move(pod); }

base::Result<std::unique_ptr<io::Socket>> Source::upstream_socket(const base::SocketAddress& to) {
  auto fd = enrolled_.netns->tcp_socket(to.ip.is_v4() ? AF_INET : AF_INET6);
  if (!fd) return fd.error();
  if (auto marked = worker_.options().mark_upstream(fd->get()); !marked) return marked.error();
  return std::make_unique<io::Socket>(worker_.reactor(), std::move(*fd));
}

ClusterPool& Source::pool(const std::shared_ptr<const config::Cluster>& cluster) {
  auto& pool = pools_[cluster->name];
  if (!pool)
    pool = std::make_unique<ClusterPool>(worker_, *this, cluster);
  else
    pool->update(cluster);
  return *pool;
}

void Source::snapshot_changed(const config::Snapshot& snapshot) {
  for (auto& [name, pool] : pools_) {
    const config::Cluster& known = *pool->cluster();
    const auto* service = snapshot.service_named(known.host);
    const config::ServicePort* port = service ? (*service)->find_port(known.port) : nullptr;
    const auto* cluster = port ? port->cluster_for(known.subset, pod().namespace_name, pod().labels) : nullptr;
    if (cluster && *cluster)
      pool->update(*cluster);
    else
      pool->retire();
  }
}

void Source::stop_listening() {
  listener_v4_.reset();
  listener_v6_.reset();
}

void Source::sweep() {
  for (auto& [name, pool] : pools_) pool->sweep();
}

bool Source::may_connect() {
  if (connections_ < worker_.options().pod_limits.max_connections) return true;
  ++worker_.stats().refused_connections;
  return false;
}

bool Source::begin_stream() {
  if (++streams_ <= worker_.options().pod_limits.max_streams) return true;
  ++worker_.stats().refused_streams;
  return false;
}

bool Source::must_copy() const { return memory_ > kUncopied || worker_.buffers_scarce(); }

void Source::refill() {
  if (turn_ == worker_.reactor().turns()) return;
  turn_ = worker_.reactor().turns();
  const int64_t quantum = worker_.quantum(*this);
  credit_ = std::min(credit_ + quantum, quantum);
}

}  // namespace weir::proxy
