// A pod: a process in a network namespace and a cgroup of its own that makes
// sockets and hands them over. Such a socket behaves like an application's, since
// both its namespace and its cgroup are settled at socket(); the test then uses it
// in plain sequence. Service addresses are the pod's own too, so that whatever is
// not diverted reaches the plain server there.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <string>

#include "base/address.h"
#include "base/fd.h"
#include "interception/network_namespace.h"
#include "node.h"

namespace weir::bpf_test {

base::SocketAddress address(const char* ip, uint16_t port);

inline constexpr const char* kPodIp4 = "10.244.0.5";
inline constexpr const char* kPodIp6 = "fd00:244::5";
inline constexpr const char* kServiceIp4 = "10.96.0.10";
inline constexpr const char* kServiceIp6 = "fd00:96::10";
inline constexpr const char* kOtherIp4 = "10.96.0.11";  // of no service
inline constexpr uint16_t kServicePort = 80;

class Pod {
 public:
  explicit Pod(const Node& node);
  ~Pod();
  Pod(const Pod&) = delete;
  Pod& operator=(const Pod&) = delete;

  // A socket of the application; its connect() and accept() give up after two seconds.
  base::Fd socket(int family, int type = SOCK_STREAM, int protocol = 0) const;
  // Listens as the pod itself.
  base::Fd listen(const base::SocketAddress& at, int backlog = 16) const;
  // Runs a command of a few words inside the pod's network namespace.
  void run(const std::string& command) const;
  interception::NetworkNamespace netns() const;

 private:
  pid_t pid_ = -1;
  base::Fd channel_;
};

// connect() with the address in the form of the socket's family, so IPv4 on an AF_INET6 socket goes v4-mapped.
// Returns 0 or errno.
int dial(const base::Fd& socket, const base::SocketAddress& to);
// The same as gRPC's C core does it: the socket is not a blocking one until it is connected (here: within 5 s).
int dial_without_blocking(const base::Fd& socket, const base::SocketAddress& to);
int bind_to(const base::Fd& socket, const base::SocketAddress& at);
// connect(AF_UNSPEC): the socket may be used again.
int disconnect(const base::Fd& socket);
// What getpeername() and getsockname() say; port 0 and :: if they fail.
base::SocketAddress peer_of(const base::Fd& socket);
base::SocketAddress name_of(const base::Fd& socket);
// RST instead of FIN, so that no TIME_WAIT holds the port.
void abort_connection(base::Fd& socket);

}  // namespace weir::bpf_test
