#include "proxy/pool.h"

#include <algorithm>
#include <cassert>

#include "base/log.h"
#include "proxy/source.h"
#include "proxy/worker.h"

namespace weir::proxy {
namespace {
// Streams that one connection being opened is trusted to take; what most servers allow.
constexpr uint32_t kMostStreamsAConnection = 100;
// How long others are preferred after a connect failed.
constexpr auto kAvoidAfterFailure = std::chrono::seconds(1);
// After so long a socket is asked for again, if there was none to be had.
constexpr auto kSocketRetry = std::chrono::milliseconds(100);

// What names the client: its address, as for kube-proxy.
uint64_t affinity_key(const config::Pod& pod) {
  return pod.ips.empty() ? 0 : std::hash<base::IpAddress>()(pod.ips.front());
}
}  // namespace

void Waiter::stop_waiting() {
  if (queue_) queue_->unlink(*this);
}

EndpointPool::EndpointPool(Worker& worker, Source& source, ClusterPool& cluster, const config::Endpoint& which)
    : worker_(worker), source_(source), cluster_(cluster), streams_a_connection_(kMostStreamsAConnection) {
  endpoint = which;
}

EndpointPool::~EndpointPool() {
  assert(idle());
  // Ejected after it had left the cluster, by the last of its calls.
  if (health.ejected) --worker_.stats().ejected_endpoints;
}

Upstream* EndpointPool::ready() {
  for (Upstream* upstream : connections_)
    if (upstream->ready()) return upstream;
  return nullptr;
}

void EndpointPool::wait_for(Waiter& waiter, base::Duration connect_timeout) {
  waiter.queue_ = this;
  waiter.next_ = nullptr;
  waiter.previous_ = last_;
  (last_ ? last_->next_ : first_) = &waiter;
  last_ = &waiter;
  ++waiting_;
  cluster_.begin_waiting();
  connect_timeout_ = connect_timeout;
  open_connections();
}

void EndpointPool::open_connections() {
  auto connecting = static_cast<uint64_t>(
      std::count_if(connections_.begin(), connections_.end(), [](const Upstream* u) { return u->connecting(); }));
  while (waiting_ > connecting * streams_a_connection_ && may_open() && open()) ++connecting;
}

// An endpoint may always have one, or what waits for it would wait for others.
bool EndpointPool::may_open() const { return cluster_.may_open() || usable_connections() == 0; }

uint32_t EndpointPool::usable_connections() const {
  return static_cast<uint32_t>(std::count_if(connections_.begin(), connections_.end(),
                                             [](const Upstream* u) { return u->connection().usable(); }));
}

const config::ConnectionPool& EndpointPool::limits() const { return cluster_.cluster()->connection_pool; }

void EndpointPool::limits_changed() {
  // Upstreams may leave the list meanwhile.
  for (Upstream* upstream : std::vector<Upstream*>(connections_)) upstream->limits_changed();
  open_connections();
}

void EndpointPool::unlink(Waiter& waiter) {
  (waiter.previous_ ? waiter.previous_->next_ : first_) = waiter.next_;
  (waiter.next_ ? waiter.next_->previous_ : last_) = waiter.previous_;
  waiter.queue_ = nullptr;
  --waiting_;
  cluster_.end_waiting();
}

bool EndpointPool::open() {
  auto socket = source_.upstream_socket(endpoint.address, limits());
  if (!socket) {
    open_error_ = socket.error().message;
    const base::Instant now = worker_.reactor().now();
    if (!without_socket_since_) without_socket_since_ = now;
    // Who waits may still be served by a connection that there is, or once there are sockets again.
    if (!may_get_socket(now))
      worker_.reactor().timers().schedule(no_socket_, now);
    else if (!no_socket_.scheduled())
      worker_.reactor().timers().schedule(no_socket_, now + kSocketRetry);
    return false;
  }
  without_socket_since_.reset();
  no_socket_.cancel();
  add(std::move(*socket), connect_timeout_).connect(endpoint.address);
  return true;
}

Upstream& EndpointPool::add(std::unique_ptr<io::Socket> socket, base::Duration connect_timeout) {
  auto upstream = std::make_unique<Upstream>(worker_, source_, *this, std::move(socket), connect_timeout);
  Upstream& added = *upstream;
  connections_.push_back(&added);
  worker_.adopt(std::move(upstream));
  return added;
}

void EndpointPool::adopt(std::unique_ptr<io::Socket> socket, bool connected, const base::Slice& said) {
  Upstream& upstream = add(std::move(socket), limits().connect_timeout);
  if (connected) upstream.go_on(said);
}

void EndpointPool::begin_relay() {
  ++active_requests;
  ++requests;
  cluster_.begin_relay();
}

void EndpointPool::end_relay() {
  --active_requests;
  cluster_.end_relay();
}

void EndpointPool::on_first_ready() { cluster_.count_ready(1); }

bool EndpointPool::may_get_socket(base::Instant now) const {
  return usable_connections() > 0 && now - *without_socket_since_ < connect_timeout_;
}

void EndpointPool::no_socket(base::Instant now) {
  if (waiting_ > 0 && may_get_socket(now)) {
    open_connections();
    if (!no_socket_.scheduled()) without_socket_since_.reset();
    return;
  }
  without_socket_since_.reset();
  fail_waiters(ConnectFailure{open_error_.c_str(), false, true});
}

bool EndpointPool::on_capacity(Upstream& upstream) {
  while (first_ && upstream.ready()) {
    if (!source_.may_work()) return false;
    Waiter& waiter = *first_;
    unlink(waiter);
    const uint64_t framed = upstream.connection().framed();
    waiter.on_ready(upstream);
    source_.spend(work::kWaiter + (upstream.connection().framed() - framed) / work::kHeadBytes);
  }
  if (!upstream.connection().usable()) cluster_.connection_left();
  if (!first_) return true;
  // It allows fewer streams than it was trusted to take, and those that run may never end.
  streams_a_connection_ = std::clamp(upstream.connection().most_streams(), 1u, kMostStreamsAConnection);
  open_connections();
  return true;
}

void EndpointPool::on_retired() {
  open_connections();
  cluster_.connection_left();
}

void EndpointPool::on_ended(Upstream& upstream, const ConnectFailure& failure, bool never_ready) {
  connections_.erase(std::find(connections_.begin(), connections_.end(), &upstream));
  if (never_ready) {
    avoid();
    fail_waiters(failure);
  } else {
    cluster_.count_ready(-1);
    open_connections();  // those who queued behind a full connection need another one
  }
  cluster_.connection_left();
}

void EndpointPool::avoid() {
  ++worker_.stats().upstream_connect_failures;
  avoid_until = worker_.reactor().now() + kAvoidAfterFailure;
}

void EndpointPool::fail_waiters(const ConnectFailure& failure) {
  // Each goes elsewhere, or comes back to this queue's end: only those of now are told.
  for (uint32_t left = waiting_; left > 0 && first_; --left) {
    Waiter& waiter = *first_;
    unlink(waiter);
    source_.spend(work::kWaiter);
    waiter.on_failed(failure);
  }
}

void EndpointPool::retire() {
  left_ = true;
  fail_waiters(ConnectFailure{"the endpoint was removed", false, false, true});
  for (Upstream* upstream : std::vector<Upstream*>(connections_)) upstream->retire();
}

ClusterPool::ClusterPool(Worker& worker, Source& source, std::shared_ptr<const config::Cluster> cluster)
    : worker_(worker), source_(source), balancer_(worker.random_seed()), affinity_key_(affinity_key(source.pod())) {
  update(std::move(cluster));
}

ClusterPool::~ClusterPool() {
  for (const auto& pool : endpoints_) stop_ejecting(*pool);
}

void ClusterPool::update(std::shared_ptr<const config::Cluster> cluster) {
  if (cluster == cluster_) return;
  cluster_ = std::move(cluster);
  std::vector<std::unique_ptr<EndpointPool>> before = std::move(endpoints_);
  endpoints_.clear();
  // Both lists are sorted by address.
  auto old = before.begin();
  for (const config::Endpoint& wanted : cluster_->endpoints) {
    while (old != before.end() && (*old)->endpoint.address < wanted.address) ++old;
    if (old != before.end() && (*old)->endpoint.address == wanted.address) {
      (*old)->endpoint = wanted;
      endpoints_.push_back(std::move(*old));
      ++old;
    } else {
      endpoints_.push_back(std::make_unique<EndpointPool>(worker_, source_, *this, wanted));
    }
    if (!cluster_->outlier_detection) stop_ejecting(*endpoints_.back());
  }
  choose_pickable();
  for (const auto& pool : endpoints_) pool->limits_changed();
  for (auto& gone : before) {
    if (!gone) continue;
    stop_ejecting(*gone);
    retired_.push_back(std::move(gone));
    retired_.back()->retire();
  }
}

void ClusterPool::retire() {
  if (cluster_->endpoints.empty()) return;
  auto none = std::make_shared<config::Cluster>(*cluster_);
  none->endpoints.clear();
  update(std::move(none));
}

void ClusterPool::choose_pickable() {
  states_.clear();
  for (const auto& pool : endpoints_) states_.push_back(pool.get());
  const auto healthy = static_cast<size_t>(
      std::count_if(states_.begin(), states_.end(), [](const auto* state) { return !state->health.ejected; }));
  const bool all =
      cluster_->outlier_detection && clusters::panics(*cluster_->outlier_detection, healthy, states_.size());
  for (Family* family : {&v4_, &v6_}) {
    family->pickable.clear();
    family->exists = false;
  }
  for (clusters::EndpointState* state : states_) {
    Family& family = state->endpoint.address.ip.is_v4() ? v4_ : v6_;
    family.exists = true;
    if (all || !state->health.ejected) family.pickable.push_back(state);
  }
}

ClusterPool::Family& ClusterPool::family_of(const base::IpAddress& dialled) {
  return dialled.is_v4() ? (v4_.exists ? v4_ : v6_) : (v6_.exists ? v6_ : v4_);
}

void ClusterPool::judge(EndpointPool& endpoint, int status) {
  const base::Instant now = worker_.reactor().now();
  if (!clusters::count_attempt(*cluster_->outlier_detection, endpoint, status, states_, now)) return;
  ++worker_.stats().outlier_ejections;
  ++worker_.stats().ejected_endpoints;
  base::log::info("{} of {} failed too many calls of {} in a row and is ejected, the {}. time lately",
                  endpoint.endpoint.address.to_string(), cluster_->name, source_.pod().qualified_name(),
                  endpoint.health.ejections);
  choose_pickable();
  if (!recover_.scheduled()) worker_.reactor().timers().schedule(recover_, now + cluster_->outlier_detection->interval);
}

void ClusterPool::recover(base::Instant now) {
  if (!cluster_->outlier_detection) return;
  bool go_on = false, returned = false;
  for (const auto& pool : endpoints_) {
    if (clusters::recover(*cluster_->outlier_detection, *pool, now)) {
      returned = true;
      --worker_.stats().ejected_endpoints;
    }
    go_on |= clusters::recovering(*pool);
  }
  if (returned) choose_pickable();
  if (go_on) worker_.reactor().timers().schedule(recover_, now + cluster_->outlier_detection->interval);
}

void ClusterPool::stop_ejecting(EndpointPool& endpoint) {
  if (endpoint.health.ejected) --worker_.stats().ejected_endpoints;
  endpoint.health = {};
}

EndpointPool* ClusterPool::endpoint_at(const base::SocketAddress& address) const {
  const auto found = std::lower_bound(endpoints_.begin(), endpoints_.end(), address,
                                      [](const auto& pool, const auto& of) { return pool->endpoint.address < of; });
  return found != endpoints_.end() && (*found)->endpoint.address == address ? found->get() : nullptr;
}

bool ClusterPool::any_untried(const base::IpAddress& dialled, std::span<const clusters::EndpointState* const> tried) {
  const auto& pickable = family_of(dialled).pickable;
  return std::any_of(pickable.begin(), pickable.end(),
                     [&](const auto* state) { return std::find(tried.begin(), tried.end(), state) == tried.end(); });
}

EndpointPool* ClusterPool::pick(const base::IpAddress& dialled, std::span<const clusters::EndpointState* const> tried,
                                base::Instant now) {
  Family& family = family_of(dialled);
  clusters::EndpointState* picked = nullptr;
  if (cluster_->session_affinity && tried.empty())
    picked = family.affinity.pick(affinity_key_, *cluster_->session_affinity, family.pickable, now);
  if (!picked) picked = balancer_.pick(cluster_->load_balancing, family.pickable, tried, now);
  return static_cast<EndpointPool*>(picked);
}

bool ClusterPool::may_open() const {
  const uint32_t most = cluster_->connection_pool.max_connections;
  if (most == config::kNoLimit) return true;
  uint32_t open = relays_;
  for (const auto& pool : endpoints_) open += pool->usable_connections();
  return open < most;
}

void ClusterPool::connection_left() {
  if (cluster_->connection_pool.max_connections == config::kNoLimit || waiting_ == 0) return;
  for (const auto& pool : endpoints_) pool->open_connections();
}

void ClusterPool::end_relay() {
  --relays_;
  connection_left();
}

bool ClusterPool::begin_retries() {
  uint32_t most = cluster_->connection_pool.max_retries;
  if (const auto& budget = cluster_->retry_budget)
    most = std::max(budget->min_retry_concurrency, static_cast<uint32_t>(budget->percent / 100 * rpcs_));
  if (retried_rpcs_ >= most) return false;
  ++retried_rpcs_;
  return true;
}

void ClusterPool::sweep() {
  std::erase_if(retired_, [](const auto& pool) { return pool->idle(); });
}

}  // namespace weir::proxy
