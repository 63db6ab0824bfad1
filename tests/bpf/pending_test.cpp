// The rows of `pending`: how many a pod may have, what becomes of the connections beyond, and that the counts are of
// the rows that there are, however these go.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "diversion.h"
#include "inspect.h"

namespace weir::bpf_test {
namespace {

// As in bpf/pending.h.
constexpr int64_t kShare = 4096, kSmallShare = 192, kTogether = 64, kCrowded = 32768, kFull = 61440;

class Pending : public Diversion {
 protected:
  Pending() {
    const rlimit files{16384, 16384};
    setrlimit(RLIMIT_NOFILE, &files);
  }
  // Adds to a count as if there were rows, for as long as it lives.
  class Others {
   public:
    Others(uint64_t slot, int64_t rows) : slot_(slot), rows_(rows) { add(rows_); }
    ~Others() { add(-rows_); }
    Others(const Others&) = delete;
    Others& operator=(const Others&) = delete;

   private:
    void add(int64_t rows) const {
      set_pending_count(installed().node.bpf_dir(), slot_, pending_count(installed().node.bpf_dir(), slot_) + rows);
    }
    uint64_t slot_;
    int64_t rows_;
  };

  // A connection whose SYN-ACK is dropped, since its TTL is below 255. No privilege is needed for that.
  static base::Fd leave_pending(const Pod& pod) {
    base::Fd client = pod.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    const int ttl = 255;
    EXPECT_EQ(setsockopt(client.get(), IPPROTO_IP, IP_MINTTL, &ttl, sizeof ttl), 0);
    EXPECT_EQ(dial(client, kService4), EINPROGRESS);
    return client;
  }
  void expect_diverted() {
    base::Fd client = pod_.socket(AF_INET);
    ASSERT_EQ(dial(client, kService4), 0);
    Arrival arrived = arrival();
    ASSERT_EQ(arrived.where, Where::agent);
    const auto original = maps_.original_destination(arrived.socket.get());
    ASSERT_TRUE(original.has_value());
    EXPECT_EQ(interception::from_abi(original->destination), kService4);
  }
  void expect_plain() {
    base::Fd client = pod_.socket(AF_INET);
    ASSERT_EQ(dial(client, kService4), 0);
    EXPECT_EQ(arrival().where, Where::plain);
  }
  static int64_t count_of(uint64_t cookie) {
    return pending_count(installed().node.bpf_dir(), WEIR_PENDING_SLOT(cookie));
  }
  static int64_t count_of_all() { return pending_count(installed().node.bpf_dir()); }
  uint64_t own_slot() const { return WEIR_PENDING_SLOT(netns_.cookie()); }

  // Of a connection from that port of the pod, written or overwritten.
  void write_row(uint16_t port, uint32_t role) {
    const weir_connection key{netns_.cookie(), interception::to_abi(address(kPodIp4, port)),
                              interception::to_abi(address("127.0.0.1", kListenerPort))};
    weir_original row{};
    base::Fd map(bpf_obj_get((installed().node.bpf_dir() + "/v1/maps/pending").c_str()));
    bpf_map_lookup_elem(map.get(), &key, &row);
    row.role = role;
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &row, BPF_ANY), 0);
  }
};

// Another pod of the node, with an agent's listener, one of whose processes does what it can.
class Hostile {
 public:
  explicit Hostile(interception::Maps& maps) : maps_(maps) {
    listener_ = agent_listener(pod, maps, address("127.0.0.1", kListenerPort), kShare);
    EXPECT_TRUE(maps.set_pod(cookie, enrolled_row()).ok());
  }
  ~Hostile() { EXPECT_TRUE(maps_.remove_pod(cookie).ok()); }

  Pod pod{installed().node};
  const uint64_t cookie = pod.netns().cookie();

 private:
  interception::Maps& maps_;
  base::Fd listener_;
};

TEST_F(Pending, APodThatFillsItsShareCostsNoOtherPodItsDestinations) {
  constexpr int kBeyond = 50;
  Hostile hostile(maps_);
  std::vector<base::Fd> clients;
  for (int i = 0; i < kShare + kBeyond; ++i) clients.push_back(leave_pending(hostile.pod));
  EXPECT_EQ(maps_.pending().value(), uint64_t{kShare});
  EXPECT_EQ(count_of(hostile.cookie), kShare);
  EXPECT_EQ(count_of_all(), kShare);
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_BACKLOG), uint64_t{kBeyond});
  for (int i = 0; i < 20; ++i) expect_diverted();
  EXPECT_EQ(counted(WEIR_STAT_HANDOVER_MISSED), 0u);

  clients.resize(clients.size() / 2);
  EXPECT_EQ(count_of(hostile.cookie), static_cast<int64_t>(maps_.pending().value()));
  // The rest ends as a process that is killed does.
  const pid_t process = fork();
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
  }
  clients.clear();
  EXPECT_EQ(count_of(hostile.cookie), static_cast<int64_t>(maps_.pending().value()));
  EXPECT_GT(count_of(hostile.cookie), 2000);
  kill(process, SIGKILL);
  waitpid(process, nullptr, 0);
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(count_of(hostile.cookie), 0);
  EXPECT_EQ(count_of_all(), 0);
}

TEST_F(Pending, ManyPodsShareWhatIsLeft) {
  Hostile hostile(maps_);
  std::vector<base::Fd> clients;
  Others others(WEIR_PENDING_SLOTS, kCrowded);
  for (int i = 0; i < kSmallShare + 10; ++i) clients.push_back(leave_pending(hostile.pod));
  EXPECT_EQ(count_of(hostile.cookie), kSmallShare);
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_BACKLOG), 10u);
  expect_diverted();
}

TEST_F(Pending, AllGoThePlainWayBeforeTheMapIsFull) {
  {
    Others others(WEIR_PENDING_SLOTS, kFull);
    expect_plain();
    EXPECT_EQ(counted(WEIR_STAT_BYPASS_BACKLOG), 1u);
    Others fewer(WEIR_PENDING_SLOTS, -1);
    expect_diverted();
  }
  expect_diverted();
  EXPECT_EQ(counted(WEIR_STAT_HANDOVER_MISSED), 0u);
}

TEST_F(Pending, FailClosedRefusesBeyondTheShare) {
  row_.flags |= WEIR_POD_FAIL_CLOSED;
  write_pod();
  Others others(own_slot(), kShare);
  EXPECT_EQ(dial(pod_.socket(AF_INET), kService4), ECONNREFUSED);
  EXPECT_EQ(counted(WEIR_STAT_REFUSED), 1u);
}

// The SYN leaves with the first data: by then the pod may have used up its share. All that is lost is its own.
TEST_F(Pending, SynsThatWaitedSinceTheHookAreCountedWhenTheyLeave) {
  std::vector<base::Fd> clients;
  for (int i = 0; i < 3; ++i) {
    base::Fd& client = clients.emplace_back(pod_.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK));
    const int on = 1, ttl = 255;
    ASSERT_EQ(setsockopt(client.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on), 0);
    ASSERT_EQ(setsockopt(client.get(), IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, &on, sizeof on), 0);
    ASSERT_EQ(setsockopt(client.get(), IPPROTO_IP, IP_MINTTL, &ttl, sizeof ttl), 0);
    ASSERT_EQ(dial(client, kService4), 0);
  }
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 3u);
  EXPECT_EQ(maps_.pending().value(), 0u);
  Others others(own_slot(), kShare + kTogether - 2);
  for (const base::Fd& client : clients) send(client.get(), "x", 1, MSG_NOSIGNAL);
  EXPECT_EQ(maps_.pending().value(), 2u);
  EXPECT_EQ(count_of_all(), 2);
  EXPECT_EQ(count_of(netns_.cookie()), kShare + kTogether);
  clients.clear();
  EXPECT_EQ(count_of(netns_.cookie()), kShare + kTogether - 2);
}

TEST_F(Pending, ARowThatWasLeftIsReplacedAndCountedOnce) {
  for (const uint32_t left : {uint32_t{WEIR_ROLE_CLIENT}, WEIR_ROLE_CLIENT | WEIR_PENDING_COUNTED}) {
    write_row(40000, left);
    if (left & WEIR_PENDING_COUNTED)
      for (uint64_t slot : {own_slot(), uint64_t{WEIR_PENDING_SLOTS}})
        set_pending_count(installed().node.bpf_dir(), slot, 1);
    base::Fd client = pod_.socket(AF_INET);
    ASSERT_EQ(bind_to(client, address(kPodIp4, 40000)), 0);
    ASSERT_EQ(dial(client, kService4), 0);
    Arrival arrived = arrival();
    const auto original = maps_.original_destination(arrived.socket.get());
    ASSERT_TRUE(original.has_value());
    EXPECT_EQ(interception::from_abi(original->destination), kService4);
    EXPECT_EQ(count_of(netns_.cookie()), 0);
    EXPECT_EQ(count_of_all(), 0);
    abort_connection(client);
  }
}

// During an update a row may be of a program that does not count, and end under one that does.
TEST_F(Pending, RowsThatNobodyCountedAreNotTakenOff) {
  for (const bool established : {false, true}) {
    const uint16_t port = established ? 40001 : 40000;  // the listener still waits for an answer from the first
    base::Fd client = pod_.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    int ttl = 255;
    ASSERT_EQ(setsockopt(client.get(), IPPROTO_IP, IP_MINTTL, &ttl, sizeof ttl), 0);
    ASSERT_EQ(bind_to(client, address(kPodIp4, port)), 0);
    ASSERT_EQ(dial(client, kService4), EINPROGRESS);
    ASSERT_EQ(count_of(netns_.cookie()), 1);
    write_row(port, WEIR_ROLE_CLIENT);
    ASSERT_EQ(maps_.pending().value(), 1u);
    for (uint64_t slot : {own_slot(), uint64_t{WEIR_PENDING_SLOTS}})
      set_pending_count(installed().node.bpf_dir(), slot, 0);
    if (established) {
      ttl = 0;
      ASSERT_EQ(setsockopt(client.get(), IPPROTO_IP, IP_MINTTL, &ttl, sizeof ttl), 0);
      Arrival arrived;
      for (int i = 0; i < 3 && arrived.where != Where::agent; ++i) arrived = arrival();  // its SYN-ACK comes once more
      EXPECT_EQ(arrived.where, Where::agent);
    }
    abort_connection(client);
    EXPECT_EQ(maps_.pending().value(), 0u);
    EXPECT_EQ(count_of(netns_.cookie()), 0);
    EXPECT_EQ(count_of_all(), 0);
  }
}

TEST_F(Pending, CountsOfAPodThatLeavesWeirEndWithItsConnections) {
  Hostile hostile(maps_);
  std::vector<base::Fd> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(leave_pending(hostile.pod));
  ASSERT_TRUE(maps_.remove_pod(hostile.cookie).ok());
  clients.resize(5);
  EXPECT_EQ(count_of(hostile.cookie), 5);
  ASSERT_TRUE(maps_.set_pod(hostile.cookie, enrolled_row()).ok());
  clients.push_back(leave_pending(hostile.pod));
  EXPECT_EQ(count_of(hostile.cookie), 6);
  clients.clear();
  EXPECT_EQ(count_of(hostile.cookie), 0);
}

TEST_F(Pending, CountsAreExactWhateverHappensAtOnce) {
  constexpr int kThreads = 4, kSockets = 8, kRounds = 300;
  std::vector<base::Fd> sockets;
  for (int i = 0; i < kThreads * kSockets; ++i) sockets.push_back(pod_.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK));
  std::atomic<bool> ended = false;
  std::thread agent([&] {
    while (!ended) accept_one({&agent4_}, {&plain4_});
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds * kSockets; ++i) {
        const base::Fd& socket = sockets[static_cast<size_t>(t * kSockets + i % kSockets)];
        const int ttl = i % 3 == 0 ? 255 : 0;
        setsockopt(socket.get(), IPPROTO_IP, IP_MINTTL, &ttl, sizeof ttl);
        disconnect(socket);
        dial(socket, kService4);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count_of(netns_.cookie()), static_cast<int64_t>(maps_.pending().value()));
  EXPECT_GT(counted(WEIR_STAT_DIVERTED), uint64_t{kThreads * kRounds});
  sockets.clear();
  ended = true;
  agent.join();
  EXPECT_EQ(count_of(netns_.cookie()), 0);
}

}  // namespace
}  // namespace weir::bpf_test
