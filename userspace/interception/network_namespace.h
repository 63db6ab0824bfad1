// A pod's network namespace, held by a descriptor. Sockets are opened inside it
// by entering it (setns affects the calling thread only), mostly for the length of one
// socket() call. Thread-safe. Needs CAP_SYS_ADMIN.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "base/result.h"

namespace weir::interception {

class NetworkNamespace {
 public:
  // `path` is /proc/PID/ns/net, or any file of that kind.
  static base::Result<NetworkNamespace> open(const char* path);

  uint64_t cookie() const { return cookie_; }  // as bpf_get_netns_cookie() gives it
  // A non-blocking, close-on-exec TCP socket that belongs to this namespace.
  base::Result<base::Fd> tcp_socket(int family) const;
  // The same, but the thread stays inside until it needs another one: two system calls less for each of a pod's
  // sockets. For threads of which nothing else depends on the namespace: they open sockets in no other way, and start
  // no threads.
  base::Result<base::Fd> tcp_socket_staying(int family) const;
  // The calling thread, if it has stayed inside, goes back to its own: it would keep the namespace alive.
  void leave() const;
  // The same for asking the kernel about the namespace's sockets (NETLINK_SOCK_DIAG).
  base::Result<base::Fd> diag_socket() const;

 private:
  NetworkNamespace(base::Fd fd, uint64_t cookie) : fd_(std::move(fd)), cookie_(cookie) {}
  base::Fd fd_;
  uint64_t cookie_;
};

}  // namespace weir::interception
