// Connections that speak no protocol, from one thread, closed loop; its result is one JSON object on stdout, in the
// form of rpc_load's. The server is tcp_backend, which ends every connection but those of `bulk`: then no port waits in
// TIME_WAIT at a client, and the load does not run out of them.
//   bulk      bytes both ways, as many as the sockets take; what counts as completed is a KiB that came back
//   connect   connect, 32 bytes there and back, the end
//   greeting  connect, the server speaks first: the latency is that of its first byte
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <map>
#include <string>
#include <vector>

#include "cpu_sampler.h"
#include "dialer.h"
#include "load_result.h"
#include "tcp_pattern.h"

namespace bench {
namespace {

enum class Mode { bulk, connect, greeting };

constexpr uint64_t kSecond = 1'000'000'000;
constexpr size_t kWrite = 64 * 1024;

struct Options {
  std::string target;
  Mode mode = Mode::bulk;
  unsigned connections = 1;  // at a time
  double warm_up = 0.5, duration = 2;
  pid_t watch = 0;
  std::string cgroup;
};

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * kSecond + static_cast<uint64_t>(now.tv_nsec);
}

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options),
        target_(parse_target(options.target)),
        sampler_(options.watch, options.cgroup),
        poll_(epoll_create1(EPOLL_CLOEXEC)),
        connections_(options.connections),
        pattern_(make_pattern(kWrite)),
        room_(kWrite) {}
  ~Load() {
    for (Connection& connection : connections_) end(connection);
    close(poll_);
  }

  LoadResult run() {
    enter(target_);
    for (Connection& connection : connections_) begin(connection);
    run_for(options_.warm_up);
    in_window_ = true;
    const uint64_t bytes = bytes_;
    const CpuTimes before = sampler_.now();
    const uint64_t start = now_ns();
    run_for(options_.duration);
    result_.cpu = sampler_.now() - before;
    result_.seconds = static_cast<double>(now_ns() - start) / 1e9;
    if (options_.mode == Mode::bulk) {
      result_.completed = (bytes_ - bytes) / 1024;
      result_.total = bytes_ / 1024;
    }
    return std::move(result_);
  }

 private:
  struct Connection {
    int fd = -1;
    uint64_t began_ns = 0;
    uint64_t sent = 0, received = 0;
  };

  void run_for(double seconds) {
    const uint64_t end = now_ns() + static_cast<uint64_t>(seconds * 1e9);
    epoll_event events[64];
    for (uint64_t now = now_ns(); now < end; now = now_ns()) {
      const timespec left{static_cast<time_t>((end - now) / kSecond), static_cast<long>((end - now) % kSecond)};
      const int count = epoll_pwait2(poll_, events, 64, &left, nullptr);
      for (int i = 0; i < count; i++) {
        auto& connection = *static_cast<Connection*>(events[i].data.ptr);
        if (events[i].events & EPOLLOUT) send_more(connection, kWrite);
        if (events[i].events & ~static_cast<uint32_t>(EPOLLOUT)) receive(connection);
      }
    }
  }

  void begin(Connection& connection) {
    connection = {};
    connection.began_ns = now_ns();
    connection.fd = dial(target_);
    const bool bulk = options_.mode == Mode::bulk;
    epoll_event interest{bulk ? EPOLLIN | EPOLLOUT : EPOLLIN, {.ptr = &connection}};
    epoll_ctl(poll_, EPOLL_CTL_ADD, connection.fd, &interest);
    if (options_.mode == Mode::connect) send_more(connection, kMessage);
  }

  void send_more(Connection& connection, size_t size) {
    const uint8_t* bytes = pattern_.data() + connection.sent % kPatternPeriod;
    const ssize_t n = send(connection.fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) connection.sent += static_cast<uint64_t>(n);  // an error is met by receive(), too
  }

  void receive(Connection& connection) {
    const ssize_t n = recv(connection.fd, room_.data(), room_.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return ended(connection, n < 0 ? std::strerror(errno) : "");
    if (std::memcmp(room_.data(), pattern_.data() + connection.received % kPatternPeriod, static_cast<size_t>(n)) != 0)
      return ended(connection, "wrong bytes");
    bytes_ += static_cast<uint64_t>(n);
    const bool first = connection.received == 0;
    connection.received += static_cast<uint64_t>(n);
    if (options_.mode != Mode::greeting || !first) return;
    if (in_window_) result_.latency.record(now_ns() - connection.began_ns);
    connection.sent = kMessage;  // the greeting's; it comes back behind it
    send_more(connection, kMessage);
  }

  void ended(Connection& connection, std::string error) {
    const uint64_t expected = options_.mode == Mode::greeting ? 2 * kMessage : kMessage;
    if (error.empty() && (options_.mode == Mode::bulk || connection.received != expected)) error = "ended early";
    if (!error.empty()) {
      result_.errors[error]++;
    } else {
      result_.total++;
      if (in_window_) result_.completed++;
      if (in_window_ && options_.mode == Mode::connect) result_.latency.record(now_ns() - connection.began_ns);
    }
    end(connection);
    begin(connection);
  }

  void end(Connection& connection) {
    if (connection.fd >= 0) close(connection.fd);
    connection.fd = -1;
  }

  const Options& options_;
  const Target target_;
  const CpuSampler sampler_;
  const int poll_;
  std::vector<Connection> connections_;
  const std::vector<uint8_t> pattern_;
  std::vector<uint8_t> room_;
  bool in_window_ = false;
  uint64_t bytes_ = 0;  // received
  LoadResult result_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  bench::Options options;
  const std::map<std::string, bench::Mode> modes = {
      {"bulk", bench::Mode::bulk}, {"connect", bench::Mode::connect}, {"greeting", bench::Mode::greeting}};
  CLI::App app{"Plain TCP connections, closed loop; prints JSON"};
  app.add_option("target", options.target, "ADDRESS:PORT, or ADDRESS:PORT@PID to dial from that process's pod")
      ->required();
  app.add_option("--mode", options.mode, "bulk, connect or greeting")->transform(CLI::CheckedTransformer(modes));
  app.add_option("-c,--connections", options.connections, "Connections at a time");
  app.add_option("--warm-up", options.warm_up, "Seconds before the window");
  app.add_option("--duration", options.duration, "Seconds of the window");
  app.add_option("--watch", options.watch, "Process whose CPU is measured");
  app.add_option("--cgroup", options.cgroup, "Folder of a cgroup whose CPU is measured");
  CLI11_PARSE(app, argc, argv);
  try {
    std::puts(bench::to_json(bench::Load(options).run()).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tcp_load: %s\n", error.what());
    return 1;
  }
}
