// Connections that must be left alone: each reaches the plain server, sees its
// real addresses, and is counted under its reason.
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

#include <optional>

#include "base/clock.h"
#include "diversion.h"

namespace weir::bpf_test {
namespace {

constexpr int kMptcp = 262;  // IPPROTO_MPTCP

class Bypass : public Diversion {
 public:
  // What a case may change before the connect().
  base::Fd client;
  base::SocketAddress to = kService4;

  Pod& pod() { return pod_; }
  interception::Maps& maps() { return maps_; }
  weir_pod& row() { return row_; }
  base::Fd& listener() { return agent4_; }
  void apply_row() { write_pod(); }
  void service(uint32_t mode, uint32_t flags = 0) { write_service(kService4, mode, flags); }
  void learn(std::chrono::nanoseconds lifetime, uint32_t sample_every, uint64_t of_others = 0) {
    const auto expires = (base::MonotonicClock::now() + lifetime).time_since_epoch().count();
    const weir_verdict row{static_cast<uint64_t>(expires), 0, sample_every, 0};
    ASSERT_TRUE(maps_.set_verdict(netns_.cookie() + of_others, kService4, row).ok());
  }
  void forget_verdicts() {
    auto verdicts = maps_.verdicts();
    for (const auto& verdict : *verdicts) EXPECT_TRUE(maps_.remove_verdict(verdict.netns_cookie, verdict.vip).ok());
  }
  ~Bypass() override { forget_verdicts(); }
  uint64_t cookie() const { return netns_.cookie(); }
  // As weirctl does.
  template <class Key>
  void brake(const Key& key, bool on = true) {
    ASSERT_TRUE(maps_.set_config({on ? WEIR_CONFIG_BRAKES : 0, 0}).ok());
    ASSERT_TRUE(maps_.set_brake(key, on).ok());
  }
  void forget_pod() { ASSERT_TRUE(maps_.remove_pod(netns_.cookie()).ok()); }
};

struct Case {
  const char* name;
  void (*arrange)(Bypass&);
  std::optional<weir_stat> counted;  // none: not even looked at
};

void listen_unmarked(Bypass& test) {
  test.listener().reset();
  test.listener() = test.pod().listen(address("127.0.0.1", kListenerPort));
}

const Case kCases[] = {
    {"unknown_vip", [](Bypass& test) { ASSERT_TRUE(test.maps().remove_service(test.to).ok()); }, {}},
    {"unknown_port",
     [](Bypass& test) {
       ASSERT_TRUE(test.maps().remove_service(test.to).ok());
       ASSERT_TRUE(test.maps().set_service(address(kServiceIp4, kServicePort + 1), {WEIR_MODE_L7, 0, 1}).ok());
     },
     {}},
    {"mode_none", [](Bypass& test) { test.service(WEIR_MODE_NONE); }, {}},
    {"not_enrolled", [](Bypass& test) { test.forget_pod(); }, {}},
    {"agents_own_upstream",
     [](Bypass& test) { ASSERT_TRUE(test.maps().mark(test.client.get(), WEIR_MARK_UPSTREAM, kGeneration).ok()); },
     {}},
    {"global_brake",
     [](Bypass& test) {
       ASSERT_TRUE(test.maps().set_config({WEIR_CONFIG_BYPASS, 0}).ok());
     },
     WEIR_STAT_BYPASS_BRAKE},
    {"pod_brake", [](Bypass& test) { test.brake(test.cookie()); }, WEIR_STAT_BYPASS_BRAKE},
    {"service_brake", [](Bypass& test) { test.brake(test.to); }, WEIR_STAT_BYPASS_BRAKE},
    {"service_brake_v4_mapped",
     [](Bypass& test) {
       test.client = test.pod().socket(AF_INET6);
       test.brake(test.to);
     },
     WEIR_STAT_BYPASS_BRAKE},
    {"observe",
     [](Bypass& test) {
       test.row().flags |= WEIR_POD_OBSERVE;
       test.apply_row();
     },
     WEIR_STAT_OBSERVED},
    {"observe_needs_no_listener",
     [](Bypass& test) {
       test.listener().reset();
       test.row().flags |= WEIR_POD_OBSERVE;
       test.apply_row();
     },
     WEIR_STAT_OBSERVED},
    {"excluded_port",
     [](Bypass& test) {
       test.row().excluded_ports_be[0] = htons(9999);
       test.row().excluded_ports_be[1] = htons(kServicePort);
       test.apply_row();
     },
     WEIR_STAT_BYPASS_EXCLUDED},
    {"last_excluded_port",
     [](Bypass& test) {
       for (uint16_t& port : test.row().excluded_ports_be) port = htons(9999);
       test.row().excluded_ports_be[WEIR_MAX_EXCLUDED_PORTS - 1] = htons(kServicePort);
       test.apply_row();
     },
     WEIR_STAT_BYPASS_EXCLUDED},
    {"bound_to_a_device",
     [](Bypass& test) { ASSERT_EQ(setsockopt(test.client.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 2), 0); },
     WEIR_STAT_BYPASS_DEVICE},
    {"mptcp", [](Bypass& test) { test.client = test.pod().socket(AF_INET, SOCK_STREAM, kMptcp); },
     WEIR_STAT_BYPASS_MPTCP},
    {"mptcp_v4_mapped", [](Bypass& test) { test.client = test.pod().socket(AF_INET6, SOCK_STREAM, kMptcp); },
     WEIR_STAT_BYPASS_MPTCP},
    {"agent_dead", [](Bypass& test) { test.listener().reset(); }, WEIR_STAT_BYPASS_NO_LISTENER},
    {"pod_listens_on_the_dead_agents_port", listen_unmarked, WEIR_STAT_BYPASS_NO_LISTENER},
    {"listener_of_another_generation",
     [](Bypass& test) {
       test.row().generation++;
       test.apply_row();
     },
     WEIR_STAT_BYPASS_NO_LISTENER},
    {"upstream_mark_is_no_listener_mark",
     [](Bypass& test) { ASSERT_TRUE(test.maps().mark(test.listener().get(), WEIR_MARK_UPSTREAM, kGeneration).ok()); },
     WEIR_STAT_BYPASS_NO_LISTENER},
    {"worker_silent_for_a_second", [](Bypass& test) { beat(test.maps(), std::chrono::milliseconds(1001)); },
     WEIR_STAT_BYPASS_STALE},
    {"worker_silent_in_its_slot_that_another_agent_claimed",
     [](Bypass& test) { beat(test.maps(), std::chrono::milliseconds(0), kGeneration + 1); }, WEIR_STAT_BYPASS_STALE},
    {"slot_that_nobody_has_claimed",
     [](Bypass& test) {
       test.row().heartbeat = kHeartbeat + 1;
       test.apply_row();
     },
     WEIR_STAT_BYPASS_STALE},
    {"slot_beyond_the_map",
     [](Bypass& test) {
       test.row().heartbeat = WEIR_MAX_HEARTBEATS;
       test.apply_row();
     },
     WEIR_STAT_BYPASS_STALE},
    {"agent_dead_counts_before_its_heartbeat",
     [](Bypass& test) {
       test.listener().reset();
       beat(test.maps(), std::chrono::seconds(5));
     },
     WEIR_STAT_BYPASS_NO_LISTENER},
    {"v6_in_a_pod_without_v6_loopback",
     [](Bypass& test) {
       test.client = test.pod().socket(AF_INET6);
       test.to = address(kServiceIp6, kServicePort);
       test.row().flags &= ~WEIR_POD_IPV6;
       test.apply_row();
     },
     WEIR_STAT_BYPASS_NO_LISTENER},
    {"learned",
     [](Bypass& test) {
       test.service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
       test.learn(std::chrono::seconds(60), 64);
     },
     WEIR_STAT_BYPASS_LEARNED},
    {"learned_v4_mapped",
     [](Bypass& test) {
       test.client = test.pod().socket(AF_INET6);
       test.service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
       test.learn(std::chrono::seconds(60), 0);
     },
     WEIR_STAT_BYPASS_LEARNED},
    {"v4_mapped_with_the_agent_dead",
     [](Bypass& test) {
       test.client = test.pod().socket(AF_INET6);
       test.listener().reset();
     },
     WEIR_STAT_BYPASS_NO_LISTENER},
};

class BypassCase : public Bypass, public testing::WithParamInterface<Case> {};

INSTANTIATE_TEST_SUITE_P(Reasons, BypassCase, testing::ValuesIn(kCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_P(BypassCase, GoesThePlainWay) {
  client = pod_.socket(AF_INET);
  GetParam().arrange(*this);
  ASSERT_FALSE(HasFatalFailure());
  ASSERT_EQ(dial(client, to), 0);
  Arrival arrived = arrival();
  EXPECT_EQ(arrived.where, Where::plain);
  EXPECT_EQ(peer_of(client), to);
  EXPECT_EQ(name_of(client), peer_of(arrived.socket));
  EXPECT_FALSE(maps_.original_destination(arrived.socket.get()).has_value());
  EXPECT_EQ(maps_.pending().value(), 0u);
  EXPECT_EQ(maps_.flows()->size(), 0u);
  for (int stat = 0; stat < WEIR_STAT_MAX; ++stat) {
    uint64_t expected = GetParam().counted == static_cast<weir_stat>(stat) ? 1 : 0;
    EXPECT_EQ(counted(static_cast<weir_stat>(stat)), expected) << "weir_stat " << stat;
  }
}

TEST_F(Bypass, BrakesOfOthersDontCount) {
  brake(cookie() + 1);
  brake(address(kServiceIp4, kServicePort + 1));
  brake(address(kOtherIp4, kServicePort));
  client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, to), 0);
  EXPECT_EQ(arrival().where, Where::agent);
  for (const auto& vip : {address(kServiceIp4, kServicePort + 1), address(kOtherIp4, kServicePort)}) brake(vip, false);
  brake(cookie() + 1, false);
  EXPECT_TRUE(maps_.brakes()->pods.empty() && maps_.brakes()->services.empty());
}

// What agents do to rows leaves brakes alone, unless the row goes for good.
TEST_F(Bypass, ABrakeHoldsWhateverIsWrittenIntoTheRow) {
  const auto where = [&] {
    base::Fd dialler = pod_.socket(AF_INET);
    EXPECT_EQ(dial(dialler, kService4), 0);
    return arrival().where;
  };
  brake(kService4);
  service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
  EXPECT_EQ(where(), Where::plain);
  ASSERT_TRUE(maps_.remove_service(kService4).ok());
  service(WEIR_MODE_L7);
  EXPECT_EQ(where(), Where::agent);

  brake(cookie());
  apply_row();
  EXPECT_EQ(where(), Where::plain);
  ASSERT_TRUE(maps_.withdraw_pod(cookie()).ok());
  apply_row();
  EXPECT_EQ(where(), Where::plain) << "the next agent's row";
  ASSERT_TRUE(maps_.remove_pod(cookie()).ok());
  apply_row();
  EXPECT_EQ(where(), Where::agent);
}

// A verdict that does not hold: each of these is diverted.
TEST_F(Bypass, VerdictsHoldForTheirPodTheirTimeAndPortsThatLearn) {
  const struct {
    const char* name;
    std::function<void()> arrange;
  } cases[] = {
      {"expired",
       [&] {
         service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
         learn(std::chrono::milliseconds(-50), 0);
       }},
      {"of another pod",
       [&] {
         service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
         learn(std::chrono::seconds(60), 0, 1);
       }},
      {"of a port that does not learn",
       [&] {
         service(WEIR_MODE_DETECT);
         learn(std::chrono::seconds(60), 0);
       }},
      {"of a port that is declared now",
       [&] {
         service(WEIR_MODE_L7, WEIR_SERVICE_LEARNS);
         learn(std::chrono::seconds(60), 0);
       }},
      {"with every connection a sample",
       [&] {
         service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
         learn(std::chrono::seconds(60), 1);
       }},
  };
  for (const auto& c : cases) {
    forget_verdicts();
    c.arrange();
    base::Fd dialler = pod_.socket(AF_INET);
    ASSERT_EQ(dial(dialler, kService4), 0) << c.name;
    EXPECT_EQ(arrival().where, Where::agent) << c.name;
  }
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_LEARNED), 0u);
}

TEST_F(Bypass, OneConnectionInSoManyIsASample) {
  service(WEIR_MODE_DETECT, WEIR_SERVICE_LEARNS);
  learn(std::chrono::seconds(60), 4);
  std::string ways;
  for (int i = 0; i < 12; ++i) {
    base::Fd dialler = pod_.socket(AF_INET);
    ASSERT_EQ(dial(dialler, kService4), 0);
    ways += arrival().where == Where::agent ? 'a' : '.';
  }
  EXPECT_EQ(ways, "...a...a...a");
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_LEARNED), 9u);
  ASSERT_EQ(maps_.verdicts()->size(), 1u);
  EXPECT_EQ(maps_.verdicts()->front().row.connections, 12u);
  EXPECT_EQ(maps_.verdicts()->front().vip, kService4);
}

TEST_F(Bypass, Udp) {
  base::Fd server = pod_.socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(bind_to(server, kService4), 0);
  base::Fd sender = pod_.socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(dial(sender, kService4), 0);
  EXPECT_EQ(peer_of(sender), kService4);
  ASSERT_EQ(send(sender.get(), "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(recv(server.get(), &byte, 1, 0), 1);
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 0u);
}

TEST_F(Bypass, LoopbackDestinationEvenIfItWereAService) {
  for (const char* ip : {"127.0.0.1", "127.1.2.3", "::1"}) {
    auto at = address(ip, kServicePort);
    write_service(at, WEIR_MODE_L7);
    base::Fd server = pod_.listen(at);
    base::Fd dialler = pod_.socket(AF_INET6);
    ASSERT_EQ(dial(dialler, at), 0) << ip;
    EXPECT_EQ(accept_one({&agent4_, &agent6_}, {&server}).where, Where::plain) << ip;
  }
  EXPECT_EQ(counted(WEIR_STAT_DIVERTED), 0u);
}

TEST_F(Bypass, FullAcceptQueue) {
  agent4_.reset();
  agent4_ = agent_listener(pod_, maps_, address("127.0.0.1", kListenerPort), 1);
  base::Fd first = pod_.socket(AF_INET), second = pod_.socket(AF_INET), third = pod_.socket(AF_INET);
  ASSERT_EQ(dial(first, kService4), 0);
  ASSERT_EQ(dial(second, kService4), 0);
  EXPECT_EQ(accept_one({}, {&plain4_}).where, Where::plain);
  EXPECT_EQ(counted(WEIR_STAT_BYPASS_BACKLOG), 1u);

  EXPECT_EQ(accept_one({&agent4_}, {}).where, Where::agent);
  ASSERT_EQ(dial(third, kService4), 0);
  EXPECT_EQ(arrival().where, Where::agent) << "there is room again";
}

TEST_F(Bypass, PodOfAnotherNamespaceInTheSameCgroup) {
  Pod neighbour(installed().node);
  base::Fd server = neighbour.listen(kService4);
  base::Fd dialler = neighbour.socket(AF_INET);
  ASSERT_EQ(dial(dialler, kService4), 0);
  EXPECT_EQ(accept_one({&agent4_}, {&server}).where, Where::plain);
}

TEST_F(Bypass, DirectDialToTheListenerHasNoOriginalDestination) {
  base::Fd dialler = pod_.socket(AF_INET);
  ASSERT_EQ(dial(dialler, address("127.0.0.1", kListenerPort)), 0);
  Arrival arrived = arrival();
  ASSERT_EQ(arrived.where, Where::agent);
  EXPECT_FALSE(maps_.original_destination(arrived.socket.get()).has_value());
  EXPECT_EQ(counted(WEIR_STAT_HANDOVER_MISSED), 1u);
}

// Fail-closed is for the absence of an agent; the brake is the operator's word and still passes.
TEST_F(Bypass, FailClosedRefusesWithoutAnAgent) {
  row_.flags |= WEIR_POD_FAIL_CLOSED;
  write_pod();
  base::Fd healthy = pod_.socket(AF_INET);
  ASSERT_EQ(dial(healthy, kService4), 0);
  EXPECT_EQ(arrival().where, Where::agent);

  beat(maps_, std::chrono::milliseconds(1500));
  EXPECT_EQ(dial(pod_.socket(AF_INET), kService4), ECONNREFUSED) << "the worker hangs";
  EXPECT_EQ(counted(WEIR_STAT_REFUSED), 1u);
  agent4_.reset();
  for (int family : {AF_INET, AF_INET6}) EXPECT_EQ(dial(pod_.socket(family), kService4), ECONNREFUSED);
  EXPECT_EQ(counted(WEIR_STAT_REFUSED), 3u);
  EXPECT_EQ(dial(pod_.socket(AF_INET), address(kOtherIp4, 1)), ECONNREFUSED) << "by the kernel: nothing listens there";
  EXPECT_EQ(counted(WEIR_STAT_REFUSED), 3u);

  ASSERT_TRUE(maps_.set_config({WEIR_CONFIG_BYPASS, 0}).ok());
  base::Fd braked = pod_.socket(AF_INET);
  ASSERT_EQ(dial(braked, kService4), 0);
  EXPECT_EQ(accept_one({}, {&plain4_}).where, Where::plain);
}

}  // namespace
}  // namespace weir::bpf_test
