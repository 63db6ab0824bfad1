// ProbeServer: /healthz, /readyz and /metrics over TCP. Whoever reaches the pod's IP may connect, and the kubelet
// restarts an agent whose /healthz does not answer, so nobody can keep a probe waiting: one thread, which never waits
// for a client; a deadline for the whole request and one for the whole answer; a limit on connections, beyond which the
// address that has most of them loses its oldest. Metrics are rendered aside, by one other thread, and shared by those
// who wait.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "admin/sources.h"
#include "base/fd.h"
#include "base/result.h"

namespace weir::admin {

class ProbeServer {
 public:
  // `address`: "IP:port" or ":port"; it is bound when this returns. Port 0: null. `sources` outlives the server.
  static base::Result<std::unique_ptr<ProbeServer>> start(const std::string& address, const Sources& sources);
  ~ProbeServer();

 private:
  struct Connection;
  using Message = std::shared_ptr<const std::string>;
  ProbeServer(base::Fd listener, base::Fd stop, base::Fd rendered, const Sources& sources);
  void run();
  void accept(base::Instant now);
  void shed();
  void receive(Connection& connection, base::Instant now);
  bool begin_metrics(base::Instant now);
  void answer_metrics(base::Instant now);
  void remove_late(base::Instant now);

  base::Fd listener_, stop_, rendered_;  // an eventfd each, but for the first
  const Sources& sources_;
  std::vector<Connection> connections_;  // oldest first
  Message metrics_;                      // what was rendered last
  base::Instant rendered_at_{};
  std::future<Message> rendering_;
  std::thread thread_;
};

}  // namespace weir::admin
