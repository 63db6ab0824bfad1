#include "interception/loopback_listeners.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/address.h"

namespace weir::interception {
namespace {

// The kernel caps it by the namespace's net.core.somaxconn.
constexpr int kBacklog = 4096;

base::Error failed(const base::SocketAddress& address, const char* what) {
  int code = errno;
  return base::system_error(std::string(what) + " " + address.to_string(), code);
}

// No SO_REUSEPORT: a process of the pod could join the group and take connections. No TCP Fast Open: its data would
// be read before the connection's original destination is known.
base::Result<base::Fd> listen_on(const NetworkNamespace& netns, const base::SocketAddress& address) {
  sockaddr_storage raw{};
  socklen_t size = address.to(raw);
  auto socket = netns.tcp_socket(raw.ss_family);
  if (!socket) return socket.error();
  int fd = socket->get();
  int on = 1;
  // Connections of an earlier listener in TIME_WAIT don't keep the port from us.
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return failed(address, "set SO_REUSEADDR on");
  if (raw.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) != 0) {
    return failed(address, "set IPV6_V6ONLY on");
  }
  if (bind(fd, reinterpret_cast<sockaddr*>(&raw), size) != 0) return failed(address, "bind");
  // The connections that it accepts inherit it, and so need no system call of their own.
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (listen(fd, kBacklog) != 0) return failed(address, "listen on");
  return std::move(socket.value());
}

const base::IpAddress& loopback_v4() {
  static const base::IpAddress address = base::IpAddress::v4(htonl(INADDR_LOOPBACK));
  return address;
}

const base::IpAddress& loopback_v6() {
  static const base::IpAddress address = *base::IpAddress::parse("::1");
  return address;
}

// A namespace that is just being made has a loopback device that is down. bind() to 127.0.0.1 may succeed even then,
// but ::1 would be missed for good.
base::Result<void> require_loopback(const NetworkNamespace& netns) {
  auto socket = netns.tcp_socket(AF_INET);
  if (!socket) return socket.error();
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  if (ioctl(socket->get(), SIOCGIFFLAGS, &request) != 0) return base::system_error("look at the pod's lo", errno);
  if (!(request.ifr_flags & IFF_UP)) return base::Error{"the pod's loopback device is down", ENETDOWN};
  return {};
}

// The device is seen to be up before it has its addresses. This takes the lock under which it gets them.
void await_loopback_addresses(int socket) {
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  ioctl(socket, SIOCGIFADDR, &request);
}

base::Result<base::Fd> listen_on_v6(const NetworkNamespace& netns, uint16_t port, int socket_v4) {
  auto listener = listen_on(netns, {loopback_v6(), port});
  if (listener || listener.error().code != EADDRNOTAVAIL) return listener;
  await_loopback_addresses(socket_v4);
  return listen_on(netns, {loopback_v6(), port});
}

}  // namespace

base::Result<LoopbackListeners> open_loopback_listeners(const NetworkNamespace& netns, uint16_t first,
                                                        uint16_t lowest) {
  if (auto up = require_loopback(netns); !up) return up.error();
  uint16_t port = first;
  for (int tried = 0; tried < kPortsPerAttempt; ++tried) {
    LoopbackListeners pair;
    pair.port = port;
    port = port == UINT16_MAX ? lowest : static_cast<uint16_t>(port + 1);
    auto v4 = listen_on(netns, {loopback_v4(), pair.port});
    if (!v4) {
      if (v4.error().code == EADDRINUSE) continue;
      return v4.error();
    }
    pair.v4 = std::move(v4.value());
    auto v6 = listen_on_v6(netns, pair.port, pair.v4.get());
    if (v6) {
      pair.v6 = std::move(v6.value());
    } else if (v6.error().code == EADDRINUSE) {
      continue;
    } else if (v6.error().code != EAFNOSUPPORT && v6.error().code != EADDRNOTAVAIL) {
      return v6.error();
    }
    return pair;
  }
  return base::Error{"no free port on the pod's loopback: " + std::to_string(kPortsPerAttempt) + " in a row are taken",
                     EADDRINUSE};
}

}  // namespace weir::interception
