#include "interception/network_namespace.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "base/log.h"

namespace weir::interception {
namespace {

// The namespace that this thread lives in, opened at its first excursion for which there is a descriptor.
int home_namespace() {
  thread_local base::Fd home;
  if (!home) home = base::Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  return home.get();
}

// The cookie of the namespace in which this thread has stayed; 0: it is in its own.
thread_local uint64_t stayed_in = 0;

void go_home(int home) {
  if (setns(home, CLONE_NEWNET) != 0) {
    // Staying would open the sockets of other pods in this one.
    base::log::critical("cannot leave a pod's network namespace: errno {}", errno);
    std::abort();
  }
  stayed_in = 0;
}

// A socket made while the calling thread was inside `netns`.
base::Result<base::Fd> socket_inside(int netns, int family, int type, int protocol = 0) {
  int home = home_namespace();
  if (home < 0) return base::system_error("open /proc/thread-self/ns/net", errno);
  if (setns(netns, CLONE_NEWNET) != 0) return base::system_error("enter a pod's network namespace", errno);
  base::Fd socket(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  int error = errno;
  go_home(home);
  if (!socket) return base::system_error("open a socket in a pod's network namespace", error);
  return socket;
}

}  // namespace

base::Result<NetworkNamespace> NetworkNamespace::open(const char* path) {
  base::Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return base::system_error(std::string("open ") + path, errno);
  if (ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET)
    return base::Error{std::string(path) + " is not a network namespace", EINVAL};
  auto probe = socket_inside(fd.get(), AF_UNIX, SOCK_DGRAM);
  if (!probe) return probe.error();
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (getsockopt(probe->get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
    return base::system_error("read a network namespace's cookie", errno);
  return NetworkNamespace(std::move(fd), cookie);
}

base::Result<base::Fd> NetworkNamespace::tcp_socket(int family) const {
  return socket_inside(fd_.get(), family, SOCK_STREAM);
}

base::Result<base::Fd> NetworkNamespace::tcp_socket_staying(int family) const {
  if (stayed_in != cookie_) {
    if (home_namespace() < 0) return base::system_error("open /proc/thread-self/ns/net", errno);
    if (setns(fd_.get(), CLONE_NEWNET) != 0) return base::system_error("enter a pod's network namespace", errno);
    stayed_in = cookie_;
  }
  base::Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return base::system_error("open a socket in a pod's network namespace", errno);
  return socket;
}

void NetworkNamespace::leave() const {
  if (stayed_in == cookie_) go_home(home_namespace());
}

base::Result<base::Fd> NetworkNamespace::diag_socket() const {
  return socket_inside(fd_.get(), AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
}

}  // namespace weir::interception
