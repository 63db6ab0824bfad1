#include "admin/server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <future>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "admin/handlers.h"
#include "base/log.h"
#include "weir/admin_api.h"

namespace weir::admin {
namespace {

constexpr size_t kAdminThreads = 4;
// A slow client of the TCP port holds a thread for a request's time: enough that probes still get through.
constexpr size_t kProbeThreads = 8;
constexpr size_t kLargestBody = 64 * 1024;
constexpr auto kTimeout = std::chrono::seconds(2);

void limit(httplib::Server& server, size_t threads, size_t requests_per_connection) {
  server.new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
  server.set_payload_max_length(kLargestBody);
  server.set_read_timeout(kTimeout);
  server.set_write_timeout(kTimeout);
  server.set_keep_alive_max_count(requests_per_connection);
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

struct TcpAddress {
  std::string host;
  int port = 0;
};

// "127.0.0.1:15020", "[::]:15020", ":15020".
std::optional<TcpAddress> parse_address(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  TcpAddress address;
  address.host = text.substr(0, colon);
  if (address.host.empty()) address.host = "0.0.0.0";
  if (address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, address.port);
  if (error != std::errc() || stop != end || address.port < 0 || address.port > 65535) return std::nullopt;
  return address;
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
    for (httplib::Server* server : {&unix_, &tcp_}) {
      if (server->is_running()) server->stop();
    }
    for (std::thread* thread : {&unix_thread_, &tcp_thread_}) {
      if (thread->joinable()) thread->join();
    }
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
    limit(unix_, kAdminThreads, 100);
    unix_.set_address_family(AF_UNIX);
    // The file is made with the mode of the socket: never open to others, not even for a moment.
    unix_.set_socket_options([](socket_t socket) { ::fchmod(socket, 0600); });
    add_probe_handlers(unix_, sources_);
    add_admin_handlers(unix_, sources_);
    constexpr int kIgnoredPort = 80;
    if (!unix_.bind_to_port(path_, kIgnoredPort)) return base::system_error("listen on " + path_, errno);
    struct stat made {};
    if (::stat(path_.c_str(), &made) == 0) inode_ = made.st_ino;
    run(unix_, unix_thread_);
    return {};
  }

  base::Result<void> listen_tcp(const std::string& address_text) {
    const auto address = parse_address(address_text);
    if (!address) return base::Error{"the metrics address '" + address_text + "' is not IP:port"};
    if (address->port == 0) return {};
    limit(tcp_, kProbeThreads, 1);
    add_probe_handlers(tcp_, sources_);
    // Not httplib's default, SO_REUSEPORT: two agents must not share a port unknowingly.
    tcp_.set_socket_options([](socket_t socket) {
      const int on = 1;
      ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    });
    if (!tcp_.bind_to_port(address->host, address->port)) {
      return base::system_error("listen on " + address_text + " for metrics and probes", errno);
    }
    run(tcp_, tcp_thread_);
    return {};
  }

 private:
  // Returns when the server is running (or failed at once): a stop() before that would be lost.
  static void run(httplib::Server& server, std::thread& thread) {
    std::promise<void> ended;
    auto failed = ended.get_future();
    thread = std::thread([&server, ended = std::move(ended)]() mutable {
      server.listen_after_bind();
      ended.set_value();
    });
    while (!server.is_running() && failed.wait_for(std::chrono::milliseconds(1)) == std::future_status::timeout) {
    }
  }

  const Sources sources_;
  httplib::Server unix_, tcp_;
  std::thread unix_thread_, tcp_thread_;
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
