#include "proxy/source.h"

#include <cerrno>
#include <utility>

#include "base/log.h"
#include "proxy/downstream.h"
#include "proxy/worker.h"

namespace weir::proxy {
namespace {
// What waits for a pod refers to receive buffers up to here: four times as much may then be pinned, half of what
// a worker has.
constexpr int64_t kUncopied = 16 << 20;
constexpr auto kBetweenComplaints = std::chrono::seconds(1);
constexpr uint64_t kLent = 4;  // the part of a pod's memory up to which Connection::lend() is used

int seconds(base::Duration duration) {  // as setsockopt() takes them
  return static_cast<int>(
      std::min<int64_t>(std::chrono::duration_cast<std::chrono::seconds>(duration).count(), INT16_MAX));
}
}  // namespace

Source::Source(Worker& worker, interception::EnrolledPod enrolled)
    : worker_(worker),
      enrolled_(std::move(enrolled)),
      verdicts_(worker.options().learning, worker.options().verdicts, enrolled_.netns->cookie()) {
  if (enrolled_.listener_v4) listener_v4_ = std::make_unique<Listener>(worker, *this, std::move(enrolled_.listener_v4));
  if (enrolled_.listener_v6) listener_v6_ = std::make_unique<Listener>(worker, *this, std::move(enrolled_.listener_v6));
}

Source::~Source() {
  unlink();
  enrolled_.netns->leave();
}

void Source::update(std::shared_ptr<const config::Pod> pod) { enrolled_.pod = std::move(pod); }

base::Result<std::unique_ptr<io::Socket>> Source::upstream_socket(const base::SocketAddress& to,
                                                                  const config::ConnectionPool& settings) {
  if (!worker_.may_open(*this, Transport::Opened::by_us))
    return base::Error{"the agent has too few descriptors left", EMFILE};
  auto fd = enrolled_.netns->tcp_socket_staying(to.ip.is_v4() ? AF_INET : AF_INET6);
  if (!fd) return fd.error();
  if (auto marked = worker_.options().mark_upstream(fd->get()); !marked) return marked.error();
  auto socket = std::make_unique<io::Socket>(worker_.reactor(), std::move(*fd));
  if (const auto& keepalive = settings.tcp_keepalive)
    socket->keep_alive(static_cast<int>(keepalive->probes), seconds(keepalive->time), seconds(keepalive->interval));
  return socket;
}

ClusterPool& Source::pool(const std::shared_ptr<const config::Cluster>& cluster) {
  if (last_pool_ && last_pool_->cluster() == cluster) return *last_pool_;
  auto& pool = pools_[cluster->name];
  if (!pool)
    pool = std::make_unique<ClusterPool>(worker_, *this, cluster);
  else
    pool->update(cluster);
  last_pool_ = pool.get();
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

void Source::detected(const Dialled& dialled, detection::Verdict verdict) {
  const bool declared = dialled.mode == config::Mode::l7;
  ++worker_.stats().detected[declared ? 0 : 1][static_cast<size_t>(verdict)];
  const bool http2 = verdict == detection::Verdict::http2;
  if (declared ? http2 : verdict == detection::Verdict::silent) return;
  const auto [service, port] = worker_.snapshot().at(dialled.address);
  if (port && declared) return worker_.recorder().misdeclared(**service, port->port);
  if (!port || !port->learns()) return;
  if (http2)
    verdicts_.http2(dialled.address);
  else
    verdicts_.opaque(dialled.address, (*service)->fqdn, worker_.reactor().now());
}

// Of a pod that fails closed no connection passes by.
bool Source::sets_apart(const base::SocketAddress& vip, const std::string& service) {
  return !pod().fail_closed && verdicts_.sets_apart(vip, service, worker_.reactor().now());
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

std::unique_ptr<io::Pipe> Source::take_pipe() {
  if (pipes_ >= std::max(worker_.pipes().most() / kPipesPart, 1u)) return nullptr;
  auto pipe = worker_.pipes().take();
  if (pipe) ++pipes_;
  return pipe;
}

void Source::give_back(std::unique_ptr<io::Pipe> pipe) {
  --pipes_;
  worker_.pipes().give_back(std::move(pipe));
}

bool Source::may_lend() const {
  return memory_ <= static_cast<int64_t>(worker_.options().pod_limits.max_memory / kLent) && worker_.may_lend();
}

void Source::wait_for_turn(TakesTurns& work) {
  if (work.linked()) return;
  work_.push_back(work);
  worker_.has_work(*this);
}

void Source::refill() {
  if (turn_ == worker_.reactor().turns()) return;
  turn_ = worker_.reactor().turns();
  const int64_t quantum = worker_.quantum(*this);
  credit_ = std::min(credit_ + quantum, quantum);
}

void Source::complain(const std::string& what) {
  const base::Instant now = worker_.reactor().now();
  if (now < complains_from_) return void(++unsaid_);
  complains_from_ = now + kBetweenComplaints;
  const uint64_t unsaid = std::exchange(unsaid_, 0);
  if (unsaid == 0) return base::log::info("pod {}: {}", pod().qualified_name(), what);
  base::log::info("pod {}: {} (and {} lines of this pod's left out since the last one)", pod().qualified_name(), what,
                  unsaid);
}

}  // namespace weir::proxy
