// Source: one enrolled pod as its worker sees it: the listeners inside its network
// namespace, and the pools of connections that are opened on its behalf.
#pragma once

#include <memory>
#include <unordered_map>

#include "interception/enrolment.h"
#include "proxy/listener.h"
#include "proxy/pool.h"

namespace weir::proxy {

class Source {
 public:
  // Starts to accept at once.
  Source(Worker& worker, interception::EnrolledPod enrolled);
  ~Source();  // when no transport refers to it any more
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  const config::Pod& pod() const { return *enrolled_.pod; }
  const std::shared_ptr<const config::Pod>& shared_pod() const { return enrolled_.pod; }
  void update(std::shared_ptr<const config::Pod> pod);

  // A socket in the pod's namespace that the BPF programs leave alone.
  base::Result<std::unique_ptr<io::Socket>> upstream_socket(const base::SocketAddress& to);
  // The pool of `cluster`, which is what `vip` stands for. Stays valid as long as the Source.
  ClusterPool& pool(const base::SocketAddress& vip, const std::shared_ptr<const config::Cluster>& cluster);

  void snapshot_changed(const config::Snapshot& snapshot);
  // Accepts what is queued, then closes the listeners; connections go on.
  void stop_listening();
  // Lets go of endpoints that left and have nothing open any more.
  void sweep();

 private:
  friend class Worker;
  friend class Transport;
  Worker& worker_;
  interception::EnrolledPod enrolled_;
  std::unique_ptr<Listener> listener_v4_, listener_v6_;
  std::unordered_map<std::string, std::unique_ptr<ClusterPool>> pools_;  // by cluster name
  size_t transports_ = 0;
  bool removing_ = false;
};

}  // namespace weir::proxy
