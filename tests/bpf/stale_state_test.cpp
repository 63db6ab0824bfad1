// Nothing of an earlier connection may show in a later one: refused and dropped
// connects, sockets used again, ports used again.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

#include "diversion.h"

namespace weir::bpf_test {
namespace {

class StaleState : public Diversion {
 protected:
  // What happens to SYNs for the listener, though it is open and marked.
  void filter(const std::string& verdict) {
    pod_.run(
        "nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }; "
        "add rule inet t in tcp dport " +
        std::to_string(kListenerPort) + " tcp flags syn " + verdict + "'");
  }
  void unfilter() { pod_.run("nft delete table inet t"); }
};

TEST_F(StaleState, RefusedConnectLeavesNoPendingRowAndNoFlow) {
  filter("reject with tcp reset");
  for (int family : {AF_INET, AF_INET6}) {
    base::Fd client = pod_.socket(family);
    EXPECT_EQ(dial(client, kService4), ECONNREFUSED);
    EXPECT_EQ(maps_.pending().value(), 0u);
    EXPECT_EQ(maps_.flows()->size(), 0u);
  }
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 2u);
}

TEST_F(StaleState, DirectConnectAfterARefusedOneOnTheSameSocket) {
  filter("reject with tcp reset");
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, kService4), ECONNREFUSED);
  unfilter();
  auto other = address(kOtherIp4, 5000);
  base::Fd server = pod_.listen(other);
  ASSERT_EQ(dial(client, other), 0);
  Arrival arrived = accept_one({&agent4_}, {&server});
  EXPECT_EQ(arrived.where, Where::plain);
  EXPECT_EQ(peer_of(client), other);
  EXPECT_EQ(name_of(client), peer_of(arrived.socket));
  EXPECT_FALSE(maps_.original_destination(arrived.socket.get()).has_value());
}

TEST_F(StaleState, PendingWhileTheSynIsUnansweredGoneWhenClosed) {
  filter("drop");
  base::Fd client = pod_.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  ASSERT_EQ(dial(client, kService4), EINPROGRESS);
  EXPECT_EQ(maps_.pending().value(), 1u);
  EXPECT_EQ(maps_.flows()->size(), 1u);
  client.reset();
  EXPECT_EQ(maps_.pending().value(), 0u);
}

TEST_F(StaleState, ConnectingAgainWhileTheSynIsUnanswered) {
  filter("drop");
  base::Fd client = pod_.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  ASSERT_EQ(dial(client, kService4), EINPROGRESS);
  EXPECT_EQ(dial(client, kService4), EALREADY);
  EXPECT_EQ(dial(client, address(kOtherIp4, 5000)), EALREADY) << "as without weir, whatever the address";
  EXPECT_EQ(name_of(client).ip, address(kPodIp4, 0).ip);
  EXPECT_EQ(maps_.pending().value(), 1u);
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 1u);
}

TEST_F(StaleState, ReconnectAfterAfUnspecWhileTheSynIsUnanswered) {
  filter("drop");
  base::Fd client = pod_.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  ASSERT_EQ(dial(client, kService4), EINPROGRESS);
  ASSERT_EQ(disconnect(client), 0);
  EXPECT_EQ(maps_.pending().value(), 0u);
  unfilter();
  auto other = address(kOtherIp4, 5000);
  base::Fd server = pod_.listen(other);
  dial(client, other);
  ASSERT_EQ(accept_one({&agent4_}, {&server}).where, Where::plain);
  EXPECT_EQ(peer_of(client), other);
}

TEST_F(StaleState, ReconnectAfterAfUnspecToAnUndivertedAddress) {
  auto other = address(kOtherIp4, 5000);
  base::Fd server = pod_.listen(other);
  for (int family : {AF_INET, AF_INET6}) {
    base::Fd client = pod_.socket(family);
    ASSERT_EQ(dial(client, kService4), 0);
    ASSERT_EQ(arrival().where, Where::agent);
    ASSERT_EQ(disconnect(client), 0);
    EXPECT_EQ(maps_.flows()->size(), 0u);
    ASSERT_EQ(dial(client, other), 0);
    Arrival arrived = accept_one({&agent4_}, {&server});
    EXPECT_EQ(arrived.where, Where::plain);
    EXPECT_EQ(peer_of(client), other);
    EXPECT_EQ(name_of(client), peer_of(arrived.socket));
    EXPECT_EQ(maps_.flows()->size(), 0u);
  }
}

TEST_F(StaleState, ReconnectAfterAfUnspecToAnotherService) {
  auto other = address(kOtherIp4, 5000);
  write_service(other, WEIR_MODE_DETECT);
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, kService4), 0);
  ASSERT_EQ(arrival().where, Where::agent);
  ASSERT_EQ(disconnect(client), 0);
  ASSERT_EQ(dial(client, other), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  auto original = maps_.original_destination(arrived.socket.get());
  ASSERT_TRUE(original.has_value());
  EXPECT_EQ(interception::from_abi(original->destination), other);
  EXPECT_EQ(original->mode, WEIR_MODE_DETECT);
  EXPECT_EQ(peer_of(client), other);
}

TEST_F(StaleState, SamePortForAnotherDestination) {
  auto source = address(kPodIp4, 40000);
  for (uint16_t port = 5000; port < 5010; ++port) {
    auto vip = address(kOtherIp4, port);
    write_service(vip, WEIR_MODE_L7);
    base::Fd client = pod_.socket(AF_INET);
    ASSERT_EQ(bind_to(client, source), 0);
    ASSERT_EQ(dial(client, vip), 0);
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    EXPECT_EQ(peer_of(arrived.socket), source);
    auto original = maps_.original_destination(arrived.socket.get());
    ASSERT_TRUE(original.has_value());
    EXPECT_EQ(interception::from_abi(original->destination), vip);
    abort_connection(client);
    EXPECT_EQ(maps_.pending().value(), 0u);
  }
}

TEST_F(StaleState, SamePortDivertedThenPlain) {
  auto source = address(kPodIp4, 40000);
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(bind_to(client, source), 0);
  ASSERT_EQ(dial(client, kService4), 0);
  ASSERT_EQ(arrival().where, Where::agent);
  abort_connection(client);

  ASSERT_TRUE(maps_.set_config({WEIR_CONFIG_BYPASS, 0}).ok());
  client = pod_.socket(AF_INET);
  ASSERT_EQ(bind_to(client, source), 0);
  ASSERT_EQ(dial(client, kService4), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::plain);
  EXPECT_EQ(name_of(client), source);
  EXPECT_FALSE(maps_.original_destination(arrived.socket.get()).has_value());
}

// The kernel finds no source port left for the diverted connect(): no SYN, nothing left.
TEST_F(StaleState, ConnectThatFailsAfterTheHook) {
  pod_.run("sh -c 'echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range'");
  auto source = address(kOtherIp4, 0);
  base::Fd first = pod_.socket(AF_INET), second = pod_.socket(AF_INET);
  for (const base::Fd* socket : {&first, &second}) {
    const int on = 1;
    ASSERT_EQ(setsockopt(socket->get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on), 0);
    ASSERT_EQ(bind_to(*socket, source), 0);
  }
  ASSERT_EQ(dial(first, kService4), 0);
  EXPECT_EQ(dial(second, kService4), EADDRNOTAVAIL);
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 2u);
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(maps_.flows()->size(), 1u);
  EXPECT_EQ(peer_of(second), base::SocketAddress{});
  EXPECT_EQ(name_of(second), source);
  EXPECT_EQ(arrival().where, Where::agent);
}

TEST_F(StaleState, ThousandConnectionsLeaveNothing) {
  for (int i = 0; i < 1000; ++i) {
    base::Fd client = pod_.socket(i % 2 ? AF_INET : AF_INET6);
    ASSERT_EQ(dial(client, kService4), 0);
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    ASSERT_TRUE(maps_.original_destination(arrived.socket.get()).has_value());
    abort_connection(client);
  }
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(maps_.flows()->size(), 0u);
  EXPECT_EQ(counted(WEIR_STAT_HANDED_OVER), 1000u);
}

TEST_F(StaleState, PodThatIsGoneLeavesNoFlowsAndNoPendingRows) {
  auto neighbour = std::make_unique<Pod>(installed().node);
  uint64_t cookie = neighbour->netns().cookie();
  base::Fd listener = agent_listener(*neighbour, maps_, address("127.0.0.1", kListenerPort));
  ASSERT_TRUE(maps_.set_pod(cookie, row_).ok());
  base::Fd client = neighbour->socket(AF_INET);
  ASSERT_EQ(dial(client, kService4), 0);
  EXPECT_EQ(maps_.flows()->size(), 1u);
  client.reset();
  listener.reset();
  neighbour.reset();
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(maps_.flows()->size(), 0u);
  ASSERT_TRUE(maps_.remove_pod(cookie).ok());
}

}  // namespace
}  // namespace weir::bpf_test
