#include "pod.h"

#include <fcntl.h>
#include <linux/in6.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace weir::bpf_test {
namespace {

struct Wanted {
  int family, type, protocol;
};

void send_socket(int channel, int socket) {
  char byte = 0;
  iovec payload{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &socket, sizeof socket);
  sendmsg(channel, &message, 0);
}

base::Fd receive_socket(int channel) {
  char byte;
  iovec payload{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) != 1) return base::Fd();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (!header) return base::Fd();
  int socket;
  std::memcpy(&socket, CMSG_DATA(header), sizeof socket);
  return base::Fd(socket);
}

// The kernel adds the local route of an IPv6 address from a work queue, after `ip` has returned.
bool await_ipv6_routes() {
  constexpr std::string_view kLocalRoute = " 80200001 ";  // RTF_LOCAL | RTF_NONEXTHOP | RTF_UP
  for (int attempt = 0; attempt < 500; ++attempt) {
    std::ifstream routes("/proc/self/net/ipv6_route");
    int found = 0;
    for (std::string line; std::getline(routes, line);)
      found += line.starts_with("fd00") && line.find(kLocalRoute) != std::string::npos;
    if (found == 2) return true;
    usleep(2'000);
  }
  return false;
}

// The pod's process: set up, say so, then a socket for every request until the test closes the channel.
[[noreturn]] void serve(int channel, const Node& node, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  std::string addresses = "ip link set lo up";
  for (const char* ip : {kPodIp4, kServiceIp4, kOtherIp4})
    addresses += std::string(" && ip addr add ") + ip + "/32 dev lo";
  for (const char* ip : {kPodIp6, kServiceIp6}) addresses += std::string(" && ip addr add ") + ip + "/128 dev lo nodad";
  char ready = 'y';
  try {
    Node::join(node.pods_cgroup(), getpid());
  } catch (const std::exception&) {
    ready = 'n';
  }
  if (ready != 'y' || unshare(CLONE_NEWNET) != 0 || std::system(addresses.c_str()) != 0 || !await_ipv6_routes())
    ready = 'n';
  if (write(channel, &ready, 1) != 1 || ready != 'y') _exit(1);
  for (Wanted wanted; read(channel, &wanted, sizeof wanted) == sizeof wanted;) {
    base::Fd socket(::socket(wanted.family, wanted.type | SOCK_CLOEXEC, wanted.protocol));
    send_socket(channel, socket.get());
    socket.reset();
    // From here on the test's descriptor is the only one, so that its close() closes the socket.
    if (write(channel, &ready, 1) != 1) _exit(1);
  }
  _exit(0);
}

// In the form of the socket's family.
socklen_t fill(const base::Fd& socket, const base::SocketAddress& from, sockaddr_storage& to) {
  int family = 0;
  socklen_t size = sizeof family;
  getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &family, &size);
  if (family == AF_INET) return from.to(to);
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(from.port);
  std::memcpy(&in6.sin6_addr, from.ip.bytes.data(), 16);
  std::memcpy(&to, &in6, sizeof in6);
  return sizeof in6;
}

}  // namespace

base::SocketAddress address(const char* ip, uint16_t port) { return {base::IpAddress::parse(ip).value(), port}; }

Pod::Pod(const Node& node) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) throw std::runtime_error("socketpair");
  channel_ = base::Fd(ends[0]);
  base::Fd other(ends[1]);
  pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    channel_.reset();
    serve(other.get(), node, parent);
  }
  other.reset();
  char ready = 'n';
  if (pid_ < 0 || read(channel_.get(), &ready, 1) != 1 || ready != 'y')
    throw std::runtime_error("the pod did not start");
}

Pod::~Pod() {
  channel_.reset();
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

base::Fd Pod::socket(int family, int type, int protocol) const {
  Wanted wanted{family, type, protocol};
  if (write(channel_.get(), &wanted, sizeof wanted) != sizeof wanted) throw std::runtime_error("the pod is gone");
  base::Fd socket = receive_socket(channel_.get());
  char handed_over;
  if (!socket || read(channel_.get(), &handed_over, 1) != 1)
    throw std::runtime_error("the pod could not open a socket");
  timeval limit{2, 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  return socket;
}

base::Fd Pod::listen(const base::SocketAddress& at, int backlog) const {
  base::Fd socket = this->socket(at.ip.is_v4() ? AF_INET : AF_INET6);
  if (int error = bind_to(socket, at)) throw std::runtime_error("bind " + at.to_string() + ": " + strerror(error));
  if (::listen(socket.get(), backlog) != 0) throw std::runtime_error("listen " + at.to_string());
  return socket;
}

void Pod::run(const std::string& command) const {
  std::string inside = "nsenter --net=/proc/" + std::to_string(pid_) + "/ns/net " + command;
  if (std::system(inside.c_str()) != 0) throw std::runtime_error(inside);
}

interception::NetworkNamespace Pod::netns() const {
  return interception::NetworkNamespace::open(("/proc/" + std::to_string(pid_) + "/ns/net").c_str()).value();
}

int dial(const base::Fd& socket, const base::SocketAddress& to) {
  sockaddr_storage storage{};
  socklen_t size = fill(socket, to, storage);
  return connect(socket.get(), reinterpret_cast<sockaddr*>(&storage), size) == 0 ? 0 : errno;
}

int dial_without_blocking(const base::Fd& socket, const base::SocketAddress& to) {
  fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  int error = dial(socket, to);
  pollfd connected{socket.get(), POLLOUT, 0};
  socklen_t size = sizeof error;
  if (error == EINPROGRESS && poll(&connected, 1, 5000) == 1)
    getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  fcntl(socket.get(), F_SETFL, 0);
  return error;
}

int bind_to(const base::Fd& socket, const base::SocketAddress& at) {
  int on = 1;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage storage{};
  socklen_t size = fill(socket, at, storage);
  return bind(socket.get(), reinterpret_cast<sockaddr*>(&storage), size) == 0 ? 0 : errno;
}

int disconnect(const base::Fd& socket) {
  sockaddr unspecified{};
  unspecified.sa_family = AF_UNSPEC;
  return connect(socket.get(), &unspecified, sizeof unspecified) == 0 ? 0 : errno;
}

base::SocketAddress peer_of(const base::Fd& socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getpeername(socket.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return base::SocketAddress::from(storage);
}

base::SocketAddress name_of(const base::Fd& socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return base::SocketAddress::from(storage);
}

void abort_connection(base::Fd& socket) {
  linger now{1, 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  socket.reset();
}

}  // namespace weir::bpf_test
