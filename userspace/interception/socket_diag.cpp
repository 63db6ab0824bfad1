#include "interception/socket_diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

namespace weir::interception {
namespace {

using Bytes = std::span<const std::byte>;

constexpr uint8_t kEstablished = 1, kCloseWait = 8;  // as in the kernel's net/tcp_states.h
constexpr uint8_t kInfo = 1u << (INET_DIAG_INFO - 1);
constexpr size_t kAlignment = 4;
constexpr int kLargestErrno = 4095;

NetlinkRequest request(uint16_t type, uint16_t flags, uint32_t sequence, const inet_diag_req_v2& body) {
  nlmsghdr header{};
  header.nlmsg_len = sizeof header + sizeof body;
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  header.nlmsg_seq = sequence;
  NetlinkRequest bytes(header.nlmsg_len);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, &body, sizeof body);
  return bytes;
}

inet_diag_req_v2 about(int family) {
  inet_diag_req_v2 body{};
  body.sdiag_family = static_cast<uint8_t>(family);
  body.sdiag_protocol = IPPROTO_TCP;
  body.idiag_ext = kInfo;
  body.idiag_states = 1u << kEstablished | 1u << kCloseWait;
  return body;
}

// A look-up by v4-mapped addresses finds IPv4 sockets and mapped ones alike.
inet_diag_req_v2 about(const TcpSocketId& id) {
  inet_diag_req_v2 body = about(AF_INET6);
  std::memcpy(body.id.idiag_src, id.local.ip.bytes.data(), sizeof body.id.idiag_src);
  std::memcpy(body.id.idiag_dst, id.remote.ip.bytes.data(), sizeof body.id.idiag_dst);
  body.id.idiag_sport = htons(id.local.port);
  body.id.idiag_dport = htons(id.remote.port);
  body.id.idiag_cookie[0] = static_cast<uint32_t>(id.cookie);
  body.id.idiag_cookie[1] = static_cast<uint32_t>(id.cookie >> 32);
  return body;
}

// Messages and attributes have the same frame: a header that begins with the length of both, then what it is about,
// up to a multiple of four.
template <class Header>
struct Framed {
  Header header;
  Bytes payload;
};

// Takes the first one off; nullopt if none is whole.
template <class Header, class Length>
std::optional<Framed<Header>> take(Bytes& bytes, Length Header::*length) {
  Framed<Header> out;
  if (bytes.size() < sizeof out.header) return std::nullopt;
  std::memcpy(&out.header, bytes.data(), sizeof out.header);
  const size_t size = out.header.*length;
  if (size < sizeof out.header || size > bytes.size()) return std::nullopt;
  out.payload = bytes.subspan(sizeof out.header, size - sizeof out.header);
  bytes = bytes.subspan(std::min(bytes.size(), (size + kAlignment - 1) / kAlignment * kAlignment));
  return out;
}

// The beginning of the bytes as a T; what they don't have is zero.
template <class T>
T read_as(Bytes bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
  return value;
}

base::SocketAddress address(uint8_t family, const __be32 (&words)[4], __be16 port_be) {
  base::SocketAddress out;
  out.port = ntohs(port_be);
  if (family == AF_INET) {
    out.ip = base::IpAddress::v4(words[0]);
  } else {
    std::memcpy(out.ip.bytes.data(), words, sizeof words);
  }
  return out;
}

void read_info(const tcp_info& info, TcpSocket& socket) {
  socket.idle = std::chrono::milliseconds(std::min(info.tcpi_last_data_sent, info.tcpi_last_data_recv));
  // Not tcpi_bytes_acked, which counts the SYN.
  socket.bytes_sent = info.tcpi_bytes_sent - std::min(info.tcpi_bytes_sent, info.tcpi_bytes_retrans);
  socket.bytes_received =
      info.tcpi_bytes_received - (info.tcpi_bytes_received > 0 && socket.half_closed ? 1 : 0);  // the FIN
}

bool names_mptcp(Bytes upper_protocol) {
  while (const auto attribute = take(upper_protocol, &nlattr::nla_len)) {
    if (attribute->header.nla_type != INET_ULP_INFO_NAME) continue;
    const std::string_view name(reinterpret_cast<const char*>(attribute->payload.data()), attribute->payload.size());
    return name.substr(0, name.find('\0')) == "mptcp";
  }
  return false;
}

void read_attributes(Bytes bytes, TcpSocket& socket) {
  while (const auto attribute = take(bytes, &nlattr::nla_len)) {
    switch (attribute->header.nla_type & NLA_TYPE_MASK) {
      case INET_DIAG_INFO:  // shorter in an older kernel, longer in a newer one
        read_info(read_as<tcp_info>(attribute->payload), socket);
        break;
      case INET_DIAG_ULP_INFO:
        socket.mptcp = names_mptcp(attribute->payload);
        break;
      case INET_DIAG_CGROUP_ID:
        socket.cgroup = read_as<uint64_t>(attribute->payload);
        break;
      default:
        break;
    }
  }
}

TcpSocket read_socket(const inet_diag_msg& body, Bytes attributes) {
  TcpSocket socket;
  socket.id.local = address(body.idiag_family, body.id.idiag_src, body.id.idiag_sport);
  socket.id.remote = address(body.idiag_family, body.id.idiag_dst, body.id.idiag_dport);
  socket.id.cookie = body.id.idiag_cookie[0] | uint64_t{body.id.idiag_cookie[1]} << 32;
  socket.device = body.id.idiag_if;
  socket.half_closed = body.idiag_state == kCloseWait;
  socket.unread = body.idiag_rqueue;
  socket.unacknowledged = body.idiag_wqueue;
  read_attributes(attributes, socket);
  return socket;
}

// What the kernel's errno, or zero, says of an answer.
base::Result<NetlinkEnd> ended_by(int error, const base::Error& malformed) {
  if (error == 0) return NetlinkEnd::last;
  if (error > 0 || error < -kLargestErrno) return malformed;
  return base::system_error("the kernel's socket diagnosis", -error);
}

}  // namespace

NetlinkRequest list_request(int family, uint32_t sequence) {
  return request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, sequence, about(family));
}

NetlinkRequest find_request(const TcpSocketId& id, uint32_t sequence) {
  return request(SOCK_DIAG_BY_FAMILY, NLM_F_ACK, sequence, about(id));
}

NetlinkRequest destroy_request(const TcpSocketId& id, uint32_t sequence) {
  return request(SOCK_DESTROY, NLM_F_ACK, sequence, about(id));
}

base::Result<NetlinkEnd> read_answer(std::span<const std::byte> datagram, uint32_t sequence,
                                     const std::function<void(const TcpSocket&)>& found) {
  const base::Error malformed{"the kernel's socket diagnosis gave a malformed answer", EBADMSG};
  while (!datagram.empty()) {
    const auto message = take(datagram, &nlmsghdr::nlmsg_len);
    if (!message || message->header.nlmsg_seq != sequence) return malformed;
    switch (message->header.nlmsg_type) {
      case NLMSG_DONE:  // of a list; how it went is told here, not by NLMSG_ERROR
        return ended_by(read_as<int32_t>(message->payload), malformed);
      case NLMSG_ERROR:  // or an acknowledgement
        if (message->payload.size() < sizeof(nlmsgerr)) return malformed;
        return ended_by(read_as<nlmsgerr>(message->payload).error, malformed);
      case SOCK_DIAG_BY_FAMILY: {
        if (message->payload.size() < sizeof(inet_diag_msg)) return malformed;
        const auto body = read_as<inet_diag_msg>(message->payload);
        // A socket that is looked up may be in any state.
        if (body.idiag_state == kEstablished || body.idiag_state == kCloseWait)
          found(read_socket(body, message->payload.subspan(sizeof body)));
        break;
      }
      default:
        return malformed;
    }
  }
  return NetlinkEnd::more;
}

}  // namespace weir::interception
