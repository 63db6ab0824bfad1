// Real connections in a network namespace of their own: seen, found, closed, and adopted as the rules say.
#include "interception/tcp_diag.h"

#include <gmock/gmock.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "interception/adoption.h"
#include "sandbox.h"
#include "unmanaged_fixture.h"

namespace weir::interception {
namespace {

using std::chrono::milliseconds;
using testing::at;
using ::testing::IsEmpty;
using testing::kAgentCgroup;
using testing::kCookie;
using ::testing::SizeIs;

constexpr char kVip[] = "10.96.0.10", kVip6[] = "fd00:96::10";
constexpr uint16_t kPort = 50051;

class TcpDiagTest : public ::testing::Test {
 protected:
  struct Connection {
    base::Fd client, server;
  };

  void SetUp() override {
    process_.make_netns();
    process_.add_address(kVip);
    process_.add_address(kVip6);
    auto opened = NetworkNamespace::open(process_.netns().c_str());
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    netns_ = std::make_shared<const NetworkNamespace>(std::move(*opened));
    listener_ = socket(AF_INET6);
    sockaddr_storage any{};
    const socklen_t size = at("::", kPort).to(any);
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&any), size), 0);
    ASSERT_EQ(listen(listener_.get(), 16), 0);
    auto pod = std::make_shared<config::Pod>();
    pod->namespace_name = "default";
    pod->name = "client";
    pod->uid = "uid-1";
    status_.pod = pod;
    status_.state = PodState::enrolled;
    status_.netns_cookie = kCookie;
    status_.netns = netns_;
  }

  base::Fd socket(int family) { return netns_->tcp_socket(family).value(); }

  Connection connect(const char* ip, bool mapped = false) {
    sockaddr_storage address{};
    socklen_t size = at(ip, kPort).to(address);
    if (mapped) {
      const base::IpAddress bytes = *base::IpAddress::parse(ip);
      auto& in6 = reinterpret_cast<sockaddr_in6&>(address);
      in6 = {};
      in6.sin6_family = AF_INET6;
      in6.sin6_port = htons(kPort);
      std::memcpy(&in6.sin6_addr, bytes.bytes.data(), 16);
      size = sizeof in6;
    }
    Connection made{socket(address.ss_family), {}};
    ::connect(made.client.get(), reinterpret_cast<sockaddr*>(&address), size);
    EXPECT_TRUE(ready(made.client, POLLOUT) && ready(listener_, POLLIN));
    made.server = base::Fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    return made;
  }

  static bool ready(const base::Fd& socket, short events) {
    pollfd polled{socket.get(), events, 0};
    return poll(&polled, 1, 2000) == 1;
  }
  static int error_of(const base::Fd& socket) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
  }

  // Those to kPort, so the clients' ends.
  std::vector<TcpSocket> clients(const NetworkNamespace& netns) {
    std::vector<TcpSocket> out;
    auto diag = TcpDiag::open(netns);
    EXPECT_TRUE(diag.ok());
    diag->start_list();
    for (int steps = 0; steps < 100; ++steps) {
      auto end = diag->step([&](const TcpSocket& found) {
        if (found.id.remote.port == kPort) out.push_back(found);
      });
      EXPECT_TRUE(end.ok()) << end.error().message;
      if (!end || *end == NetlinkEnd::last) return out;
    }
    ADD_FAILURE() << "no end";
    return out;
  }

  AdoptResult adopt(const TcpSocketId& id, base::Duration min_idle = {}, bool active = false) {
    auto result = adoption_.adopt({&status_, 1}, world_.snapshot, {"uid-1", id, min_idle, active});
    EXPECT_TRUE(result.ok()) << result.error().message;
    return result ? *result : AdoptResult::gone;
  }

  testing::Process process_;
  std::shared_ptr<const NetworkNamespace> netns_;
  base::Fd listener_;
  testing::UnmanagedWorld world_;
  Adoption adoption_{world_.rows(), kAgentCgroup};
  PodStatus status_;
};

TEST_F(TcpDiagTest, SeesEveryFamily) {
  const Connection v4 = connect(kVip), mapped = connect(kVip, true), v6 = connect(kVip6);
  const auto found = clients(*netns_);
  ASSERT_THAT(found, SizeIs(3));
  for (const TcpSocket& socket : found) {
    EXPECT_TRUE(socket.id.remote == at(kVip, kPort) || socket.id.remote == at(kVip6, kPort));
    EXPECT_NE(socket.id.cookie, 0u);
    EXPECT_NE(socket.cgroup, 0u);
    EXPECT_FALSE(socket.half_closed || socket.mptcp || socket.device);
  }
}

TEST_F(TcpDiagTest, SeesNoOtherNamespace) {
  testing::Process other;
  other.make_netns();
  auto elsewhere = NetworkNamespace::open(other.netns().c_str());
  ASSERT_TRUE(elsewhere.ok());
  const Connection connection = connect(kVip);
  EXPECT_THAT(clients(*elsewhere), IsEmpty());
  EXPECT_THAT(clients(*netns_), SizeIs(1));
}

TEST_F(TcpDiagTest, TellsWhatGoesOn) {
  const Connection connection = connect(kVip);
  ASSERT_EQ(send(connection.client.get(), "12345", 5, 0), 5);
  ASSERT_EQ(send(connection.server.get(), "123", 3, 0), 3);
  ASSERT_TRUE(ready(connection.client, POLLIN));
  shutdown(connection.server.get(), SHUT_WR);
  const auto found = clients(*netns_);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].unread, 4u);  // FIN counts as one
  EXPECT_EQ(found[0].bytes_received, 3u);
  EXPECT_TRUE(found[0].half_closed);
  EXPECT_LT(found[0].idle, std::chrono::seconds(5));
}

TEST_F(TcpDiagTest, ClosesOneConnectionAndNoOther) {
  auto diag = TcpDiag::open(*netns_);
  ASSERT_TRUE(diag.ok());
  for (const auto& [ip, mapped] : {std::pair(kVip, false), std::pair(kVip, true), std::pair(kVip6, false)}) {
    const Connection other = connect(ip, mapped);
    const auto before = clients(*netns_);
    ASSERT_THAT(before, SizeIs(1));
    const Connection meant = connect(ip, mapped);
    auto found = clients(*netns_);
    ASSERT_THAT(found, SizeIs(2));
    const TcpSocketId id = found[0].id == before[0].id ? found[1].id : found[0].id;

    auto again = diag->find(id);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ(again->id, id);
    TcpSocketId wrong = id;
    ++wrong.cookie;
    EXPECT_EQ(diag->destroy(wrong).error().code, ENOENT);
    EXPECT_EQ(diag->find(wrong).error().code, ENOENT);
    ASSERT_TRUE(diag->find(id).ok());

    const auto destroyed = diag->destroy(id);
    ASSERT_TRUE(destroyed.ok()) << destroyed.error().message;
    EXPECT_EQ(error_of(meant.client), ECONNABORTED);
    EXPECT_TRUE(ready(meant.server, POLLIN));
    EXPECT_EQ(error_of(meant.server), ECONNRESET);
    EXPECT_EQ(diag->destroy(id).error().code, ENOENT);
    EXPECT_EQ(error_of(other.client), 0);
    const auto after = clients(*netns_);
    ASSERT_THAT(after, SizeIs(1));
    EXPECT_EQ(after[0].id, before[0].id);
  }
}

TEST_F(TcpDiagTest, AnAnswerThatIsNotTheKernelsIsAnError) {
  auto diag = TcpDiag::open(*netns_);
  auto other = netns_->diag_socket();
  ASSERT_TRUE(diag.ok() && other.ok());
  diag->start_list();
  ASSERT_TRUE(diag->step([](const TcpSocket&) {}).ok());
  // The first netlink socket of a process in a namespace has the number of the process.
  sockaddr_nl to{};
  to.nl_family = AF_NETLINK;
  to.nl_pid = static_cast<uint32_t>(getpid());
  const NetlinkRequest forged = list_request(AF_INET, 1);
  ASSERT_EQ(sendto(other->get(), forged.data(), forged.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to),
            static_cast<ssize_t>(forged.size()));
  for (int steps = 0; steps < 10; ++steps) {
    const auto end = diag->step([](const TcpSocket&) {});
    if (end.ok()) continue;
    EXPECT_THAT(end.error().message, ::testing::HasSubstr("in place of the kernel"));
    return;
  }
  ADD_FAILURE() << "it was taken for the kernel's";
}

TEST_F(TcpDiagTest, AdoptsWhatIsIdle) {
  const Connection connection = connect(kVip);
  const UnmanagedList list = adoption_.list({&status_, 1}, world_.snapshot, {});
  ASSERT_THAT(list.connections, SizeIs(1));
  EXPECT_EQ(list.connections[0].target.service->name, "greeter");
  EXPECT_THAT(list.problems, IsEmpty());
  const TcpSocketId id = list.connections[0].socket.id;
  EXPECT_EQ(adopt(id, std::chrono::hours(1)), AdoptResult::active);
  EXPECT_EQ(error_of(connection.client), 0);
  EXPECT_EQ(adopt(id), AdoptResult::closed);
  EXPECT_EQ(error_of(connection.client), ECONNABORTED);
  EXPECT_EQ(adopt(id), AdoptResult::gone);
  EXPECT_EQ(adoption_.count(AdoptResult::closed), 1u);
  EXPECT_EQ(adoption_.count(AdoptResult::active), 1u);
  EXPECT_EQ(adoption_.count(AdoptResult::gone), 1u);
}

TEST_F(TcpDiagTest, ConnectionsOfAPodThatHasEndedAreGone) {
  const Connection connection = connect(kVip);
  const auto found = clients(*netns_);
  ASSERT_THAT(found, SizeIs(1));
  const auto result = adoption_.adopt({&status_, 1}, world_.snapshot, {"uid-2", found[0].id, {}, true});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result.value(), AdoptResult::gone);
  EXPECT_EQ(adoption_.count(AdoptResult::gone), 1u);
  EXPECT_EQ(error_of(connection.client), 0) << "another pod's";
}

TEST_F(TcpDiagTest, BytesUnderWayMakeAConnectionActive) {
  const Connection unread = connect(kVip), unsent = connect(kVip);
  ASSERT_EQ(send(unread.server.get(), "x", 1, 0), 1);
  ASSERT_TRUE(ready(unread.client, POLLIN));
  const std::string much(16 << 20, 'x');
  ASSERT_GT(send(unsent.client.get(), much.data(), much.size(), 0), 0);  // more than its server's buffer takes
  const auto found = clients(*netns_);
  ASSERT_THAT(found, SizeIs(2));
  for (const TcpSocket& socket : found) EXPECT_EQ(adopt(socket.id), AdoptResult::active);
  for (const TcpSocket& socket : found) EXPECT_EQ(adopt(socket.id, {}, true), AdoptResult::closed);
  EXPECT_EQ(error_of(unread.client), ECONNABORTED);
  EXPECT_EQ(error_of(unsent.client), ECONNABORTED);
}

TEST_F(TcpDiagTest, LeavesAloneWhatWouldNotBeDiverted) {
  const Connection connection = connect(kVip);
  const auto found = clients(*netns_);
  ASSERT_THAT(found, SizeIs(1));
  world_.pod_brakes = {kCookie};
  EXPECT_EQ(adopt(found[0].id, {}, true), AdoptResult::managed);
  world_.pod_brakes = {};
  world_.services.erase(at(kVip, kPort));
  EXPECT_EQ(adopt(found[0].id, {}, true), AdoptResult::managed);
  status_.state = PodState::waiting;
  EXPECT_EQ(adopt(found[0].id, {}, true), AdoptResult::managed);
  EXPECT_EQ(error_of(connection.client), 0);
  EXPECT_THAT(adoption_.list({&status_, 1}, world_.snapshot, {}).connections, IsEmpty());
}

TEST_F(TcpDiagTest, ListsWhatIsSelected) {
  const Connection v4 = connect(kVip), v6 = connect(kVip6);
  const std::pair<UnmanagedSelection, size_t> cases[] = {
      {{}, 2},
      {{"default", "", ""}, 2},
      {{"other", "", ""}, 0},
      {{"", "default/client", ""}, 2},
      {{"", "default/clien", ""}, 0},
      {{"default", "default/client", "default/greeter6"}, 1},
      {{"", "", "default/other"}, 0},
  };
  for (const auto& [selection, expected] : cases) {
    EXPECT_THAT(adoption_.list({&status_, 1}, world_.snapshot, selection).connections, SizeIs(expected))
        << selection.namespace_name << " " << selection.pod << " " << selection.service;
  }
}

}  // namespace
}  // namespace weir::interception
