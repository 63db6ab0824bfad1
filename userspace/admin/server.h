// Server: the agent's admin interface (weir/admin_api.h), on a unix socket that
// only root may open, and for probes and Prometheus on a TCP port (ProbeServer). It
// has a few threads of its own and asks Sources; it never touches the request path.
#pragma once

#include <memory>
#include <string>

#include "admin/sources.h"
#include "base/result.h"

namespace weir::admin {

struct ServerOptions {
  std::string run_dir = "/run/weir";  // made if missing; holds admin.sock
  std::string metrics_address;        // "IP:port" or ":port"; empty or port 0: no TCP
};

class Server {
 public:
  // Binds both before it returns, replacing a socket file that an earlier agent left.
  static base::Result<std::unique_ptr<Server>> start(ServerOptions options, Sources sources);
  // Finishes what it answers; removes the socket file unless a later agent has replaced it.
  ~Server();

 private:
  class State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace weir::admin
