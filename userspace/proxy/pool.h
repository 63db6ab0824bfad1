// The upstream connections of one source pod: per cluster, per endpoint. Pools are
// never shared between pods, so that one pod's load can't use another's, and
// DestinationRule limits mean what they mean with a sidecar.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "clusters/balancer.h"
#include "clusters/outlier_detection.h"
#include "config/snapshot.h"
#include "proxy/upstream.h"

namespace weir::proxy {

// Why no stream could be had.
struct ConnectFailure {
  const char* reason = "";      // for people
  bool broke_protocol = false;  // it connected, but what it sent is not HTTP/2
  bool no_socket = false;       // there was none to be had: no descriptors, no memory
  bool left = false;            // the endpoint left the cluster
};

class ClusterPool;
class EndpointPool;

// Waits for a stream to an endpoint; an Exchange is one. In at most one queue.
class Waiter {
 public:
  bool waiting() const { return queue_ != nullptr; }
  void stop_waiting();

 protected:
  ~Waiter() = default;
  virtual void on_ready(Upstream& upstream) = 0;
  virtual void on_failed(const ConnectFailure& failure) = 0;

 private:
  friend class EndpointPool;
  EndpointPool* queue_ = nullptr;
  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
};

class EndpointPool final : public clusters::EndpointState {
 public:
  EndpointPool(Worker& worker, Source& source, ClusterPool& cluster, const config::Endpoint& which);
  ~EndpointPool();

  // A connection that takes a stream now, or null: then wait_for().
  Upstream* ready();
  // One of the waiter's functions is called later, never from here.
  void wait_for(Waiter& waiter, base::Duration connect_timeout);

  // From Upstream: the peer's SETTINGS have come.
  void on_first_ready();
  // False: the pod's turn is over, and more can go on in the next one.
  bool on_capacity(Upstream& upstream);
  void on_retired();
  void on_ended(Upstream& upstream, const ConnectFailure& failure, bool never_ready);

  // For connections that the pool did not open: no stream could begin at once.
  bool wants_connection() const { return !left_ && usable_connections() == 0; }
  // Goes on with such a socket, connected or connecting; `said`: what has been read from it.
  void adopt(std::unique_ptr<io::Socket> socket, bool connected, const base::Slice& said);
  // A relayed connection to the endpoint, from the choice to its end.
  void begin_relay();
  void end_relay();

  // A connect failed: others are preferred for a while.
  void avoid();
  // The endpoint left the cluster: connections end with their last stream, waiters are sent elsewhere.
  void retire();
  // Of the cluster, as configured now.
  const config::ConnectionPool& limits() const;
  void limits_changed();
  // Those that take streams, or will.
  uint32_t usable_connections() const;
  // As many as it takes until those being opened can be trusted to take all who wait, within maxConnections.
  void open_connections();
  bool idle() const { return connections_.empty() && active_requests == 0 && waiting_ == 0; }

 private:
  friend class Waiter;
  void unlink(Waiter& waiter);
  bool may_open() const;
  bool open();
  Upstream& add(std::unique_ptr<io::Socket> socket, base::Duration connect_timeout);
  void fail_waiters(const ConnectFailure& failure);
  bool may_get_socket(base::Instant now) const;
  void no_socket(base::Instant now);

  Worker& worker_;
  Source& source_;
  ClusterPool& cluster_;
  std::vector<Upstream*> connections_;  // owned by the worker
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
  uint32_t waiting_ = 0;
  uint32_t streams_a_connection_;  // as the peer allowed last; a guess before it has said so
  base::Duration connect_timeout_{};
  std::string open_error_;
  bool left_ = false;                                  // the cluster
  std::optional<base::Instant> without_socket_since_;  // none was to be had, and some wait
  io::MemberTimer<EndpointPool, &EndpointPool::no_socket> no_socket_{*this};
};

// One source's view of one cluster.
class ClusterPool {
 public:
  ClusterPool(Worker& worker, Source& source, std::shared_ptr<const config::Cluster> cluster);
  ~ClusterPool();

  // Takes over a newer version: endpoints that stay keep their connections and counts.
  void update(std::shared_ptr<const config::Cluster> cluster);
  const std::shared_ptr<const config::Cluster>& cluster() const { return cluster_; }
  // connectionPool's limits, over all endpoints. Whether one more connection may be opened beyond an endpoint's first
  // (maxConnections), one more RPC may wait for one (http1MaxPendingRequests), and the attempts under way, the newest
  // included, are not too many (http2MaxRequests).
  bool may_open() const;
  bool may_wait() const { return waiting_ < cluster_->connection_pool.max_pending_requests; }
  bool may_begin() const { return attempts_ - waiting_ <= cluster_->connection_pool.max_requests; }
  void begin_attempt() { ++attempts_; }
  void end_attempt() { --attempts_; }
  void begin_waiting() { ++waiting_; }
  void end_waiting() { --waiting_; }
  // There may be room for a connection again.
  void connection_left();
  // Relayed connections count against maxConnections as those of the pool do.
  void begin_relay() { ++relays_; }
  void end_relay();
  // Some endpoint has an HTTP/2 connection open.
  bool speaks_http2() const { return ready_connections_ > 0; }
  void count_ready(int change) { ready_connections_ += change; }

  // The cluster is gone: all its endpoints have left.
  void retire();
  // One that is not in `tried`, of the same IP family as the address that was dialled if the cluster has any; null:
  // there is none.
  EndpointPool* pick(const base::IpAddress& dialled, std::span<const clusters::EndpointState* const> tried,
                     base::Instant now);
  EndpointPool* endpoint_at(const base::SocketAddress& address) const;  // null: there is none (any more)
  bool any_untried(const base::IpAddress& dialled, std::span<const clusters::EndpointState* const> tried);
  // An attempt there has ended, with what counts as this HTTP status for outlier detection.
  void count_attempt(EndpointPool& endpoint, int status) {
    if (cluster_->outlier_detection) judge(endpoint, status);
  }
  // An RPC under way, from its first attempt to its end.
  void begin_rpc() { ++rpcs_; }
  void end_rpc(bool retried) {
    --rpcs_;
    retried_rpcs_ -= retried ? 1 : 0;
  }
  // One of them makes attempts after its first from now on. False: retryBudget, or connectionPool.http.maxRetries,
  // allows no more at a time.
  bool begin_retries();
  // Lets go of endpoints that left and have nothing open any more.
  void sweep();

 private:
  // The endpoints of one IP family.
  struct Family {
    std::vector<clusters::EndpointState*> pickable;  // those that are not ejected
    bool exists = false;                             // some have an address of it
    clusters::Affinity affinity;
  };
  Family& family_of(const base::IpAddress& dialled);
  void judge(EndpointPool& endpoint, int status);
  void recover(base::Instant now);
  void stop_ejecting(EndpointPool& endpoint);
  // After endpoints, or what is known of them, have changed.
  void choose_pickable();

  Worker& worker_;
  Source& source_;
  std::shared_ptr<const config::Cluster> cluster_;
  clusters::Balancer balancer_;
  const uint64_t affinity_key_;
  uint32_t rpcs_ = 0;
  uint32_t retried_rpcs_ = 0;
  uint32_t attempts_ = 0;  // that have an endpoint ...
  uint32_t waiting_ = 0;   // ... of which these wait for a stream
  uint32_t relays_ = 0;
  int ready_connections_ = 0;
  std::vector<std::unique_ptr<EndpointPool>> endpoints_;
  std::vector<clusters::EndpointState*> states_;  // of endpoints_
  Family v4_, v6_;
  io::MemberTimer<ClusterPool, &ClusterPool::recover> recover_{*this};
  std::vector<std::unique_ptr<EndpointPool>> retired_;
};

}  // namespace weir::proxy
