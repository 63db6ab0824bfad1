#include "interception/tcp_diag.h"

#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <iterator>
#include <optional>

namespace weir::interception {
namespace {

constexpr int kFamilies[] = {AF_INET, AF_INET6};
constexpr size_t kLargestDatagram = 32 * 1024;  // the kernel makes none that is larger

}  // namespace

base::Result<TcpDiag> TcpDiag::open(const NetworkNamespace& netns) {
  auto socket = netns.diag_socket();
  if (!socket) return socket.error();
  return TcpDiag(std::move(*socket));
}

base::Result<void> TcpDiag::send(const NetlinkRequest& request) {
  if (::send(socket_.get(), request.data(), request.size(), MSG_DONTWAIT) < 0)
    return base::system_error("ask the kernel's socket diagnosis", errno);
  return {};
}

base::Result<NetlinkEnd> TcpDiag::receive(const std::function<void(const TcpSocket&)>& found) {
  std::array<std::byte, kLargestDatagram> datagram;
  sockaddr_nl sender{};
  socklen_t length = sizeof sender;
  const ssize_t size = ::recvfrom(socket_.get(), datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_TRUNC,
                                  reinterpret_cast<sockaddr*>(&sender), &length);
  if (size < 0) return base::system_error("read the kernel's socket diagnosis", errno);
  // Whoever has CAP_NET_ADMIN in the namespace can send here.
  if (sender.nl_pid != 0) return base::Error{"somebody in the pod answers in place of the kernel", EBADMSG};
  if (static_cast<size_t>(size) > datagram.size()) return base::system_error("read the socket diagnosis", EMSGSIZE);
  return read_answer(std::span(datagram).first(static_cast<size_t>(size)), sequence_, found);
}

void TcpDiag::start_list() {
  family_ = 0;
  answering_ = false;
}

base::Result<NetlinkEnd> TcpDiag::step(const std::function<void(const TcpSocket&)>& found) {
  if (!answering_) {
    if (auto asked = send(list_request(kFamilies[family_], ++sequence_)); !asked) return asked.error();
    answering_ = true;
    return NetlinkEnd::more;
  }
  auto end = receive(found);
  if (!end || *end == NetlinkEnd::more) return end;
  answering_ = false;
  return ++family_ == std::size(kFamilies) ? NetlinkEnd::last : NetlinkEnd::more;
}

base::Result<void> TcpDiag::ask(const NetlinkRequest& request, const std::function<void(const TcpSocket&)>& found) {
  if (auto asked = send(request); !asked) return asked;
  while (true) {
    auto end = receive(found);
    if (!end) return end.error();
    if (*end == NetlinkEnd::last) return {};
  }
}

base::Result<TcpSocket> TcpDiag::find(const TcpSocketId& id) {
  std::optional<TcpSocket> socket;
  auto asked = ask(find_request(id, ++sequence_), [&](const TcpSocket& found) { socket = found; });
  if (!asked) return asked.error();
  if (!socket) return base::system_error("the connection", ENOENT);
  return *socket;
}

base::Result<void> TcpDiag::destroy(const TcpSocketId& id) {
  return ask(destroy_request(id, ++sequence_), [](const TcpSocket&) {});
}

}  // namespace weir::interception
