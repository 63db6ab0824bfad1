#include "dialer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace bench {
namespace {

constexpr int kConnectTimeoutMs = 10'000;
constexpr std::string_view kMapped = "[::ffff:";

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

std::string cgroup2_mount() {
  std::ifstream mounts("/proc/self/mounts");
  std::string device, folder, kind, rest;
  while (mounts >> device >> folder >> kind && std::getline(mounts, rest)) {
    if (kind == "cgroup2") return folder;
  }
  throw std::runtime_error("cgroup2 is not mounted");
}

std::string cgroup_of(int process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("0::")) return cgroup2_mount() + line.substr(3);
  }
  throw std::runtime_error("process " + std::to_string(process) + " is gone");
}

void await_connection(int fd, const Target& target) {
  pollfd writable{fd, POLLOUT, 0};
  if (poll(&writable, 1, kConnectTimeoutMs) == 0) {
    errno = ETIMEDOUT;
    fail("connect to " + to_string(target));
  }
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  errno = error;
  if (error != 0) fail("connect to " + to_string(target));
}

}  // namespace

Target parse_target(const std::string& text) {
  Target target;
  const size_t at = text.find('@');
  const size_t colon = text.rfind(':', at);
  in_addr address{};
  std::string host = colon == std::string::npos ? "" : text.substr(0, colon);
  target.mapped = host.starts_with(kMapped) && host.ends_with(']');
  if (target.mapped) host = host.substr(kMapped.size(), host.size() - kMapped.size() - 1);
  if (inet_pton(AF_INET, host.c_str(), &address) != 1) {
    throw std::invalid_argument(text + ": not ADDRESS:PORT[@PID]");
  }
  target.address = address.s_addr;
  target.port = htons(static_cast<uint16_t>(std::stoul(text.substr(colon + 1))));
  if (at != std::string::npos) target.process = std::stoi(text.substr(at + 1));
  return target;
}

std::string to_string(const Target& target) {
  char text[INET_ADDRSTRLEN];
  const in_addr address{target.address};
  inet_ntop(AF_INET, &address, text, sizeof(text));
  return std::string(text) + ":" + std::to_string(ntohs(target.port));
}

void enter(const Target& target) {
  if (target.process == 0) return;
  // The cgroup first, by a path of this namespace; a socket keeps the cgroup that it was opened in.
  const std::string procs = cgroup_of(target.process) + "/cgroup.procs";
  if (!(std::ofstream(procs) << getpid() << std::flush)) fail(procs);
  const std::string netns = "/proc/" + std::to_string(target.process) + "/ns/net";
  const int fd = open(netns.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) fail(netns);
  close(fd);
}

int dial(const Target& target) {
  const int fd = socket(target.mapped ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) fail("socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = target.port;
  address.sin_addr.s_addr = target.address;
  sockaddr_in6 mapped{};
  mapped.sin6_family = AF_INET6;
  mapped.sin6_port = target.port;
  memset(&mapped.sin6_addr.s6_addr[10], 0xff, 2);
  memcpy(&mapped.sin6_addr.s6_addr[12], &target.address, sizeof(target.address));
  const bool connected = target.mapped ? connect(fd, reinterpret_cast<sockaddr*>(&mapped), sizeof(mapped)) == 0
                                       : connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  if (!connected) {
    if (errno != EINPROGRESS) fail("connect to " + to_string(target));
    await_connection(fd, target);
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return fd;
}

}  // namespace bench
