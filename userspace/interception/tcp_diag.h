// TcpDiag asks the kernel about the TCP sockets of one network namespace, and closes one. The kernel answers while it
// is asked: nothing here waits. Each call is a few system calls at most, of which none takes longer than a walk through
// the node's table of connections (1 ms for some 5,000). Not thread-safe; needs CAP_NET_ADMIN over the namespace.
#pragma once

#include <array>
#include <functional>

#include "base/fd.h"
#include "base/result.h"
#include "interception/network_namespace.h"
#include "interception/socket_diag.h"

namespace weir::interception {

class TcpDiag {
 public:
  static base::Result<TcpDiag> open(const NetworkNamespace& netns);

  // A list in steps: step() until it says last. It calls `found` for some of the established sockets, a hundred or so.
  // Sockets that come or go meanwhile may be in it or not.
  void start_list();
  base::Result<NetlinkEnd> step(const std::function<void(const TcpSocket&)>& found);

  // Error::code ENOENT: there is no such socket any more.
  base::Result<TcpSocket> find(const TcpSocketId& id);
  // Error::code ENOENT: it was gone; EOPNOTSUPP: the kernel was built without INET_DIAG_DESTROY.
  base::Result<void> destroy(const TcpSocketId& id);

 private:
  explicit TcpDiag(base::Fd socket) : socket_(std::move(socket)) {}
  base::Result<void> send(const NetlinkRequest& request);
  base::Result<NetlinkEnd> receive(const std::function<void(const TcpSocket&)>& found);
  base::Result<void> ask(const NetlinkRequest& request, const std::function<void(const TcpSocket&)>& found);

  base::Fd socket_;
  uint32_t sequence_ = 0;  // of the last request
  size_t family_ = 0;      // of the list under way: its place in kFamilies
  bool answering_ = false;
};

}  // namespace weir::interception
