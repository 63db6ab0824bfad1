// Sockets that share a source port: each reaches the service that it dialled, as it does without weir.
#include <poll.h>

#include "diversion.h"

namespace weir::bpf_test {
namespace {

constexpr uint16_t kOwnPort = 45678;

class SourcePort : public Diversion, public testing::WithParamInterface<Dialling> {
 protected:
  void SetUp() override { write_service(second_, WEIR_MODE_L7); }

  base::SocketAddress first() const { return address(GetParam().service_ip, kServicePort); }
  // Bound to the port at the pod's IP or at any address.
  base::Fd bound(bool any_address = false) const {
    const bool v4 = GetParam().family == AF_INET;
    base::Fd socket = pod_.socket(GetParam().family);
    EXPECT_EQ(bind_to(socket, address(any_address ? (v4 ? "0.0.0.0" : "::") : GetParam().pod_ip, kOwnPort)), 0);
    return socket;
  }
  // The second service is reached the plain way.
  void expect_plain(const base::Fd& client) {
    ASSERT_EQ(dial(client, second_), 0);
    const Arrival arrived = accept_one({&agent4_, &agent6_}, {&plain_});
    EXPECT_EQ(arrived.where, Where::plain);
    EXPECT_EQ(peer_of(client), second_);
    EXPECT_EQ(name_of(client), peer_of(arrived.socket));
    EXPECT_EQ(name_of(client).port, kOwnPort);
    EXPECT_EQ(counted(WEIR_STAT_BYPASS_SOURCE_PORT), 1u);
  }

  const base::SocketAddress second_ = address(GetParam().service_ip, kServicePort + 1);
  base::Fd plain_ = pod_.listen(second_);
};

INSTANTIATE_TEST_SUITE_P(Families, SourcePort, testing::ValuesIn(kDiallings),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_P(SourcePort, OfAConnectionThatIsDiverted) {
  for (bool any_address : {false, true}) {
    SCOPED_TRACE(any_address ? "any address" : "the pod's");
    const uint64_t diverted = counted(WEIR_STAT_DIVERTED), passed = counted(WEIR_STAT_BYPASS_SOURCE_PORT);
    base::Fd one = bound(any_address), two = bound(any_address);
    ASSERT_EQ(dial(one, first()), 0);
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    ASSERT_EQ(dial(two, second_), 0);
    EXPECT_EQ(accept_one({&agent4_, &agent6_}, {&plain_}).where, Where::plain);
    EXPECT_EQ(peer_of(two), second_);
    EXPECT_EQ(peer_of(one), first());
    EXPECT_EQ(counted(WEIR_STAT_DIVERTED) - diverted, 1u);
    EXPECT_EQ(counted(WEIR_STAT_BYPASS_SOURCE_PORT) - passed, 1u);
    abort_connection(one);
    abort_connection(two);
  }
}

TEST_P(SourcePort, OfOneThatIsConnecting) {
  pod_.run(
      "nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }; "
      "add rule inet t in tcp dport " +
      std::to_string(kListenerPort) + " tcp flags syn drop'");
  base::Fd one = pod_.socket(GetParam().family, SOCK_STREAM | SOCK_NONBLOCK), two = bound();
  ASSERT_EQ(bind_to(one, address(GetParam().pod_ip, kOwnPort)), 0);
  ASSERT_EQ(dial(one, first()), EINPROGRESS);
  expect_plain(two);
}

TEST_P(SourcePort, OfOneThatIsOver) {
  base::Fd one = bound(), two = bound();
  ASSERT_EQ(dial(one, first()), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  one.reset();
  pollfd ended{arrived.socket.get(), POLLIN | POLLRDHUP, 0};
  ASSERT_EQ(poll(&ended, 1, 1000), 1);
  arrived.socket.reset();  // the client's end is in TIME_WAIT
  expect_plain(two);
}

// With SO_REUSEPORT the pod may have a server there as well.
TEST_P(SourcePort, OfAServerIsNoConnection) {
  const auto reuse = [&](const base::Fd& socket) {
    const int on = 1;
    ASSERT_EQ(setsockopt(socket.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
    ASSERT_EQ(bind_to(socket, address(GetParam().pod_ip, kOwnPort)), 0);
  };
  base::Fd server = pod_.socket(GetParam().family), client = pod_.socket(GetParam().family);
  reuse(server);
  reuse(client);
  ASSERT_EQ(listen(server.get(), 1), 0);
  ASSERT_EQ(dial(client, first()), 0);
  EXPECT_EQ(arrival().where, Where::agent);
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_SOURCE_PORT), 0u);
}

TEST_P(SourcePort, BelowAThousandAndTwentyFourIsKeptUnlessHttp2IsDeclared) {
  constexpr uint16_t kPrivileged = 1023;
  const auto privileged = [&] {
    base::Fd socket = pod_.socket(GetParam().family);
    EXPECT_EQ(bind_to(socket, address(GetParam().pod_ip, kPrivileged)), 0);
    return socket;
  };
  for (const uint32_t mode : {WEIR_MODE_DETECT, WEIR_MODE_TCP}) {
    write_service(second_, mode);
    base::Fd client = privileged();
    ASSERT_EQ(dial(client, second_), 0);
    const Arrival arrived = accept_one({&agent4_, &agent6_}, {&plain_});
    EXPECT_EQ(arrived.where, Where::plain);
    EXPECT_EQ(peer_of(arrived.socket).port, kPrivileged);
    abort_connection(client);
  }
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_SOURCE_PORT), 2u);
  write_service(second_, WEIR_MODE_L7);
  base::Fd client = privileged();
  ASSERT_EQ(dial(client, second_), 0);
  EXPECT_EQ(arrival().where, Where::agent);
}

// Each its own port, chosen by the kernel at bind().
TEST_P(SourcePort, OfItsOwn) {
  for (int i = 0; i < 5; ++i) {
    base::Fd client = pod_.socket(GetParam().family);
    ASSERT_EQ(bind_to(client, address(GetParam().pod_ip, 0)), 0);
    ASSERT_EQ(dial(client, first()), 0);
    EXPECT_EQ(arrival().where, Where::agent);
  }
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_SOURCE_PORT), 0u);
}

}  // namespace
}  // namespace weir::bpf_test
