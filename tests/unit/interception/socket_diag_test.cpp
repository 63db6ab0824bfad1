// Messages of the kernel's socket diagnosis: requests as bytes, answers as values, and whatever bytes as no harm.
#include "interception/socket_diag.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>

#include <cstring>
#include <random>

namespace weir::interception {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using Bytes = std::vector<std::byte>;

constexpr uint32_t kSequence = 7;
constexpr uint8_t kEstablished = 1, kTimeWait = 6, kCloseWait = 8;

base::SocketAddress at(const char* ip, uint16_t port) { return {*base::IpAddress::parse(ip), port}; }

template <class T>
Bytes bytes_of(const T& value) {
  Bytes out(sizeof value);
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

void append(Bytes& to, const Bytes& bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

void pad(Bytes& bytes) { bytes.resize((bytes.size() + 3) / 4 * 4); }

Bytes attribute(uint16_t type, const Bytes& payload) {
  Bytes out = bytes_of(nlattr{static_cast<uint16_t>(sizeof(nlattr) + payload.size()), type});
  append(out, payload);
  pad(out);
  return out;
}

Bytes message(uint16_t type, const Bytes& payload, uint32_t sequence = kSequence) {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(sizeof header + payload.size());
  header.nlmsg_type = type;
  header.nlmsg_seq = sequence;
  Bytes out = bytes_of(header);
  append(out, payload);
  pad(out);
  return out;
}

inet_diag_msg body_v4(uint8_t state = kEstablished) {
  inet_diag_msg body{};
  body.idiag_family = AF_INET;
  body.idiag_state = state;
  body.id.idiag_sport = htons(40000);
  body.id.idiag_dport = htons(50051);
  inet_pton(AF_INET, "10.244.0.5", body.id.idiag_src);
  inet_pton(AF_INET, "10.96.0.10", body.id.idiag_dst);
  body.id.idiag_cookie[0] = 0x22222222;
  body.id.idiag_cookie[1] = 0x11111111;
  body.idiag_rqueue = 3;
  body.idiag_wqueue = 4;
  return body;
}

Bytes socket_message(const inet_diag_msg& body, const Bytes& attributes = {}) {
  Bytes payload = bytes_of(body);
  append(payload, attributes);
  return message(SOCK_DIAG_BY_FAMILY, payload);
}

Bytes error_message(int error) {
  nlmsgerr body{};
  body.error = error;
  return message(NLMSG_ERROR, bytes_of(body));
}

struct Answer {
  base::Result<NetlinkEnd> end;
  std::vector<TcpSocket> sockets;
};

Answer read(const Bytes& datagram, uint32_t sequence = kSequence) {
  std::vector<TcpSocket> sockets;
  auto end = read_answer(datagram, sequence, [&](const TcpSocket& socket) { sockets.push_back(socket); });
  return {std::move(end), std::move(sockets)};
}

TEST(SocketDiagTest, AListAsksForEstablishedAndHalfClosedOnes) {
  for (const int family : {AF_INET, AF_INET6}) {
    const NetlinkRequest request = list_request(family, 42);
    ASSERT_THAT(request, SizeIs(sizeof(nlmsghdr) + sizeof(inet_diag_req_v2)));
    nlmsghdr header;
    inet_diag_req_v2 body;
    std::memcpy(&header, request.data(), sizeof header);
    std::memcpy(&body, request.data() + sizeof header, sizeof body);
    EXPECT_EQ(header.nlmsg_len, request.size());
    EXPECT_EQ(header.nlmsg_type, SOCK_DIAG_BY_FAMILY);
    EXPECT_EQ(header.nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
    EXPECT_EQ(header.nlmsg_seq, 42u);
    EXPECT_EQ(body.sdiag_family, family);
    EXPECT_EQ(body.sdiag_protocol, IPPROTO_TCP);
    EXPECT_EQ(body.idiag_states, 1u << kEstablished | 1u << kCloseWait);
  }
}

TEST(SocketDiagTest, ASocketIsNamedByAddressesAndCookie) {
  const TcpSocketId id{at("10.244.0.5", 40000), at("10.96.0.10", 50051), 0x1111111122222222};
  const std::pair<NetlinkRequest, uint16_t> requests[] = {{find_request(id, 1), SOCK_DIAG_BY_FAMILY},
                                                          {destroy_request(id, 1), SOCK_DESTROY}};
  for (const auto& [request, type] : requests) {
    nlmsghdr header;
    inet_diag_req_v2 body;
    std::memcpy(&header, request.data(), sizeof header);
    std::memcpy(&body, request.data() + sizeof header, sizeof body);
    EXPECT_EQ(header.nlmsg_type, type);
    EXPECT_EQ(header.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
    EXPECT_EQ(body.id.idiag_sport, htons(40000));
    EXPECT_EQ(body.id.idiag_dport, htons(50051));
    EXPECT_EQ(body.id.idiag_cookie[0], 0x22222222u);
    EXPECT_EQ(body.id.idiag_cookie[1], 0x11111111u);
    EXPECT_EQ(std::memcmp(body.id.idiag_src, id.local.ip.bytes.data(), 16), 0);
    EXPECT_EQ(std::memcmp(body.id.idiag_dst, id.remote.ip.bytes.data(), 16), 0);
  }
}

TEST(SocketDiagTest, ReadsASocket) {
  tcp_info info{};
  info.tcpi_last_data_sent = 9000;
  info.tcpi_last_data_recv = 2500;
  info.tcpi_bytes_sent = 121;
  info.tcpi_bytes_retrans = 10;
  info.tcpi_bytes_received = 222;
  inet_diag_msg body = body_v4();
  body.id.idiag_if = 5;
  Bytes attributes = attribute(INET_DIAG_SHUTDOWN, Bytes(1));
  append(attributes, attribute(INET_DIAG_INFO, bytes_of(info)));
  append(attributes, attribute(INET_DIAG_CGROUP_ID, bytes_of(uint64_t{1234})));
  append(attributes, attribute(999, Bytes(13)));  // of a kernel to come
  const Answer answer = read(socket_message(body, attributes));
  TcpSocket expected;
  expected.id = {at("10.244.0.5", 40000), at("10.96.0.10", 50051), 0x1111111122222222};
  expected.device = 5;
  expected.cgroup = 1234;
  expected.unread = 3;
  expected.unacknowledged = 4;
  expected.idle = milliseconds(2500);
  expected.bytes_sent = 111;
  expected.bytes_received = 222;
  EXPECT_THAT(answer.sockets, ElementsAre(expected));
  ASSERT_TRUE(answer.end.ok());
  EXPECT_EQ(answer.end.value(), NetlinkEnd::more);
}

TEST(SocketDiagTest, ReadsAddressesOfEitherFamilyInOneForm) {
  inet_diag_msg native = body_v4(), mapped = body_v4();
  native.idiag_family = mapped.idiag_family = AF_INET6;
  inet_pton(AF_INET6, "fd00::5", native.id.idiag_src);
  inet_pton(AF_INET6, "fd00:96::1", native.id.idiag_dst);
  inet_pton(AF_INET6, "::ffff:10.244.0.5", mapped.id.idiag_src);
  inet_pton(AF_INET6, "::ffff:10.96.0.10", mapped.id.idiag_dst);
  Bytes datagram = socket_message(native);
  append(datagram, socket_message(mapped));
  const Answer answer = read(datagram);
  ASSERT_THAT(answer.sockets, SizeIs(2));
  EXPECT_EQ(answer.sockets[0].id.remote, at("fd00:96::1", 50051));
  EXPECT_EQ(answer.sockets[0].id.local, at("fd00::5", 40000));
  EXPECT_EQ(answer.sockets[1].id.remote, at("10.96.0.10", 50051));
}

TEST(SocketDiagTest, StatesAndUpperProtocols) {
  const auto upper = [](std::string_view name) {
    Bytes text(name.size() + 1);
    std::memcpy(text.data(), name.data(), name.size());
    return attribute(INET_DIAG_ULP_INFO | NLA_F_NESTED, attribute(INET_ULP_INFO_NAME, text));
  };
  const Answer half_closed = read(socket_message(body_v4(kCloseWait)));
  ASSERT_THAT(half_closed.sockets, SizeIs(1));
  EXPECT_TRUE(half_closed.sockets[0].half_closed);
  EXPECT_THAT(read(socket_message(body_v4(kTimeWait))).sockets, IsEmpty());
  EXPECT_TRUE(read(socket_message(body_v4(), upper("mptcp"))).sockets.at(0).mptcp);
  EXPECT_FALSE(read(socket_message(body_v4(), upper("tls"))).sockets.at(0).mptcp);
  EXPECT_FALSE(read(socket_message(body_v4(), upper("mptcp2"))).sockets.at(0).mptcp);
}

TEST(SocketDiagTest, AnOlderKernelsShorterStatistics) {
  tcp_info info{};
  info.tcpi_last_data_sent = info.tcpi_last_data_recv = 1000;
  info.tcpi_bytes_sent = 5;
  Bytes shorter = bytes_of(info);
  shorter.resize(offsetof(tcp_info, tcpi_bytes_sent));
  const TcpSocket socket = read(socket_message(body_v4(), attribute(INET_DIAG_INFO, shorter))).sockets.at(0);
  EXPECT_EQ(socket.idle, milliseconds(1000));
  EXPECT_EQ(socket.bytes_sent, 0u);
}

TEST(SocketDiagTest, Ends) {
  Bytes list = socket_message(body_v4());
  append(list, message(NLMSG_DONE, Bytes(4)));
  Answer answer = read(list);
  ASSERT_TRUE(answer.end.ok());
  EXPECT_EQ(answer.end.value(), NetlinkEnd::last);
  EXPECT_THAT(answer.sockets, SizeIs(1));
  answer = read(error_message(0));
  ASSERT_TRUE(answer.end.ok());
  EXPECT_EQ(answer.end.value(), NetlinkEnd::last);
  for (const int error : {ENOENT, EOPNOTSUPP, EPERM}) {
    answer = read(error_message(-error));
    ASSERT_FALSE(answer.end.ok());
    EXPECT_EQ(answer.end.error().code, error);
    Bytes failed = socket_message(body_v4());
    append(failed, message(NLMSG_DONE, bytes_of(int32_t{-error})));
    answer = read(failed);
    ASSERT_FALSE(answer.end.ok()) << "a list that ended early";
    EXPECT_EQ(answer.end.error().code, error);
  }
  EXPECT_TRUE(read(message(NLMSG_DONE, {})).end.ok());
}

TEST(SocketDiagTest, WhatIsMalformedIsAnError) {
  Bytes truncated = socket_message(body_v4());
  truncated.pop_back();
  nlmsghdr header{};
  header.nlmsg_seq = kSequence;
  header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  Bytes no_length = bytes_of(header);
  header.nlmsg_len = 0x80000010;  // negative, to whom takes it for an int
  const Bytes huge = bytes_of(header);
  const std::pair<const char*, Bytes> cases[] = {
      {"a header cut short", Bytes(sizeof(nlmsghdr) - 1)},
      {"a message longer than the datagram", truncated},
      {"a length of nothing", no_length},
      {"a length with the top bit", huge},
      {"a socket cut short", message(SOCK_DIAG_BY_FAMILY, Bytes(sizeof(inet_diag_msg) - 1))},
      {"an error cut short", message(NLMSG_ERROR, Bytes(3))},
      {"an errno that is none", error_message(5)},
      {"the smallest errno", error_message(INT32_MIN)},
      {"a list's end by what is no errno", message(NLMSG_DONE, bytes_of(int32_t{5}))},
      {"a type of another family", message(16, Bytes(100))},
  };
  for (const auto& [name, datagram] : cases) {
    const Answer answer = read(datagram);
    ASSERT_FALSE(answer.end.ok()) << name;
    EXPECT_EQ(answer.end.error().code, EBADMSG) << name;
    EXPECT_THAT(answer.sockets, IsEmpty()) << name;
  }
  EXPECT_FALSE(read(socket_message(body_v4()), kSequence + 1).end.ok()) << "an answer to another request";
}

TEST(SocketDiagTest, AttributesThatLieAreLeftOut) {
  const TcpSocket plain = read(socket_message(body_v4())).sockets.at(0);
  Bytes beyond = attribute(INET_DIAG_INFO, Bytes(8));
  const uint16_t long_one = 60000, short_one = 3;
  for (const uint16_t length : {long_one, short_one, uint16_t{0}}) {
    std::memcpy(beyond.data(), &length, sizeof length);
    EXPECT_THAT(read(socket_message(body_v4(), beyond)).sockets, ElementsAre(plain)) << length;
  }
}

// Sanitizers look on.
TEST(SocketDiagTest, AnyBytes) {
  tcp_info info{};
  Bytes valid = socket_message(body_v4(), attribute(INET_DIAG_INFO, bytes_of(info)));
  append(valid, socket_message(body_v4(), attribute(INET_DIAG_ULP_INFO, attribute(INET_ULP_INFO_NAME, Bytes(6)))));
  append(valid, message(NLMSG_DONE, Bytes(4)));
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    Bytes bytes(valid.begin(), valid.begin() + random() % (valid.size() + 1));
    for (uint32_t changes = random() % 8; changes > 0 && !bytes.empty(); --changes)
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    EXPECT_LE(read(Bytes(bytes)).sockets.size(), 2u);  // a copy, so that its end is the allocation's
  }
}

}  // namespace
}  // namespace weir::interception
