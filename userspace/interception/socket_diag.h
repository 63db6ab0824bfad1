// What the kernel's socket diagnosis (sock_diag(7), NETLINK_SOCK_DIAG) is asked about TCP, and what it
// answers. Pure; TcpDiag (tcp_diag.h) sends and receives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "base/result.h"

namespace weir::interception {

// Names a socket: the kernel never gives a cookie twice, addresses may be another socket's by now.
struct TcpSocketId {
  base::SocketAddress local, remote;
  uint64_t cookie = 0;
  bool operator==(const TcpSocketId&) const = default;
};

// A connection, as its own end sees it.
struct TcpSocket {
  TcpSocketId id;
  uint32_t device = 0;          // that it is bound to (SO_BINDTODEVICE); 0: none
  uint64_t cgroup = 0;          // of the process that made it; 0: not told
  bool half_closed = false;     // the peer sends nothing more (CLOSE_WAIT)
  bool mptcp = false;           // a subflow
  uint32_t unread = 0;          // bytes received that the application has not read
  uint32_t unacknowledged = 0;  // bytes written that the peer has not acknowledged
  base::Duration idle{};        // since data last went either way, or since it was established
  uint64_t bytes_sent = 0, bytes_received = 0;
  bool operator==(const TcpSocket&) const = default;
};

using NetlinkRequest = std::vector<std::byte>;

// All established and half-closed TCP sockets of `family` (AF_INET, AF_INET6; the latter has those with v4-mapped
// addresses, too).
NetlinkRequest list_request(int family, uint32_t sequence);
// One socket: that list of one, or an error.
NetlinkRequest find_request(const TcpSocketId& id, uint32_t sequence);
// Closes it as if it had failed (ECONNABORTED), with a reset to the peer.
NetlinkRequest destroy_request(const TcpSocketId& id, uint32_t sequence);

enum class NetlinkEnd { more, last };  // whether other datagrams of the answer follow

// Reads one datagram of the answer to the request of that sequence number, and calls `found` for each socket in it.
// Error::code is the kernel's errno (EOPNOTSUPP: destroying is not built in; ENOENT: no such
// socket, or TCP can't be diagnosed), or EBADMSG for what is malformed.
base::Result<NetlinkEnd> read_answer(std::span<const std::byte> datagram, uint32_t sequence,
                                     const std::function<void(const TcpSocket&)>& found);

}  // namespace weir::interception
