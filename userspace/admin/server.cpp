#include "admin/server.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "admin/handlers.h"
#include "admin/probe_server.h"
#include "base/log.h"
#include "weir/admin_api.h"

namespace weir::admin {
namespace {

constexpr size_t kAdminThreads = 4;
constexpr size_t kRequestsPerConnection = 100;
constexpr size_t kLargestBody = 64 * 1024;
constexpr auto kTimeout = std::chrono::seconds(2);

void limit(httplib::Server& server) {
  server.new_task_queue = [] { return new httplib::ThreadPool(kAdminThreads); };
  server.set_payload_max_length(kLargestBody);
  server.set_read_timeout(kTimeout);
  server.set_write_timeout(kTimeout);
  server.set_keep_alive_max_count(kRequestsPerConnection);
  server.set_keep_alive_timeout(kTimeout.count());
  server.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    const nlohmann::json error = {
        {admin_api::key::error, request.method + " " + request.path + ": there is no such thing"}};
    response.set_content(error.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "application/json");
  });
  server.set_exception_handler([](const httplib::Request& request, httplib::Response& response, std::exception_ptr) {
    base::log::error("admin: {} {} failed", request.method, request.path);
    response.status = 500;
  });
}

base::Result<void> make_folder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return base::system_error("make the run directory " + path, errno);
}

}  // namespace

class Server::State {
 public:
  explicit State(Sources sources) : sources_(std::move(sources)) {}

  ~State() {
    if (unix_.is_running()) unix_.stop();
    if (unix_thread_.joinable()) unix_thread_.join();
    struct stat now {};
    if (inode_ != 0 && ::stat(path_.c_str(), &now) == 0 && now.st_ino == inode_) ::unlink(path_.c_str());
  }

  base::Result<void> listen_unix(const std::string& run_dir) {
    if (auto made = make_folder(run_dir); !made) return made.error();
    path_ = run_dir + "/" + admin_api::kSocketName;
    if (path_.size() >= sizeof(sockaddr_un::sun_path)) {
      return base::Error{"the admin socket's path is too long for a unix socket: " + path_};
    }
    if (::unlink(path_.c_str()) != 0 && errno != ENOENT) return base::system_error("replace " + path_, errno);
    limit(unix_);
    unix_.set_address_family(AF_UNIX);
    // The file is made with the mode of the socket: never open to others, not even for a moment.
    unix_.set_socket_options([](socket_t socket) { ::fchmod(socket, 0600); });
    add_probe_handlers(unix_, sources_);
    add_admin_handlers(unix_, sources_);
    constexpr int kIgnoredPort = 80;
    if (!unix_.bind_to_port(path_, kIgnoredPort)) return base::system_error("listen on " + path_, errno);
    struct stat made {};
    if (::stat(path_.c_str(), &made) == 0) inode_ = made.st_ino;
    run();
    return {};
  }

  base::Result<void> listen_tcp(const std::string& address) {
    auto probes = ProbeServer::start(address, sources_);
    if (!probes) return probes.error();
    probes_ = std::move(*probes);
    return {};
  }

 private:
  // Returns when the server is running (or failed at once): a stop() before that would be lost.
  void run() {
    std::promise<void> ended;
    auto failed = ended.get_future();
    unix_thread_ = std::thread([this, ended = std::move(ended)]() mutable {
      unix_.listen_after_bind();
      ended.set_value();
    });
    while (!unix_.is_running() && failed.wait_for(std::chrono::milliseconds(1)) == std::future_status::timeout) {
    }
  }

  const Sources sources_;
  std::unique_ptr<ProbeServer> probes_;
  httplib::Server unix_;
  std::thread unix_thread_;
  std::string path_;
  ino_t inode_ = 0;
};

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::~Server() = default;

base::Result<std::unique_ptr<Server>> Server::start(ServerOptions options, Sources sources) {
  auto state = std::make_unique<State>(std::move(sources));
  // In this order: an agent that can't have the port must not take the socket from the one that runs.
  if (!options.metrics_address.empty()) {
    if (auto listening = state->listen_tcp(options.metrics_address); !listening) return listening.error();
  }
  if (auto listening = state->listen_unix(options.run_dir); !listening) return listening.error();
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

}  // namespace weir::admin
