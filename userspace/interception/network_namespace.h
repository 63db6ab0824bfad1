// A pod's network namespace, held by a descriptor. Sockets are opened inside it
// by entering it for the length of one socket() call (setns affects the calling
// thread only) and coming back. Thread-safe. Needs CAP_SYS_ADMIN.
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

 private:
  NetworkNamespace(base::Fd fd, uint64_t cookie) : fd_(std::move(fd)), cookie_(cookie) {}
  base::Fd fd_;
  uint64_t cookie_;
};

}  // namespace weir::interception
