#include "clusters/balancer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "endpoints.h"

namespace weir::clusters {
namespace {

using config::LoadBalancing;

constexpr LoadBalancing kPolicies[] = {LoadBalancing::least_request, LoadBalancing::round_robin, LoadBalancing::random};

TEST(Balancer, NoneOfNone) {
  Balancer balancer(1);
  for (auto policy : kPolicies) EXPECT_EQ(balancer.pick(policy, {}, {}, kNow), nullptr);
}

TEST(Balancer, IdleEndpointsGetEvenShares) {
  for (auto policy : kPolicies) {
    for (size_t count : {2u, 3u, 30u}) {
      Endpoints endpoints(count);
      Balancer balancer(42);
      std::vector<int> picks(count);
      const int rounds = 1000 * static_cast<int>(count);
      for (int i = 0; i < rounds; ++i) ++picks[endpoints.index(balancer.pick(policy, endpoints.all(), {}, kNow))];
      for (int n : picks) EXPECT_NEAR(n, 1000, 170) << "of " << count;  // more than five standard deviations
    }
  }
}

TEST(Balancer, RoundRobinTakesTurns) {
  Endpoints endpoints(3);
  Balancer balancer(1);
  const auto next = [&] {
    return endpoints.index(balancer.pick(LoadBalancing::round_robin, endpoints.all(), {}, kNow));
  };
  const size_t first = next();
  for (size_t i = 1; i < 9; ++i) EXPECT_EQ(next(), (first + i) % 3);
}

TEST(Balancer, RoundRobinGivesTheTurnOfOneToBeAvoidedToAllOthersAlike) {
  Endpoints endpoints(4);
  endpoints[1].avoid_until = kNow + std::chrono::seconds(1);
  Balancer balancer(1);
  std::vector<int> picks(4);
  for (int i = 0; i < 300; ++i)
    ++picks[endpoints.index(balancer.pick(LoadBalancing::round_robin, endpoints.all(), {}, kNow))];
  EXPECT_EQ(picks, (std::vector<int>{100, 0, 100, 100}));
}

TEST(Balancer, LeastRequestFavoursTheIdle) {
  Endpoints endpoints(2);
  endpoints[0].active_requests = 5;
  Balancer balancer(9);
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(balancer.pick(LoadBalancing::least_request, endpoints.all(), {}, kNow), &endpoints[1]);
}

TEST(Balancer, LeastRequestStaysEvenWhenRequestsPileUp) {
  Endpoints endpoints(10);
  Balancer balancer(3);
  for (int i = 0; i < 10'000; ++i)
    ++balancer.pick(LoadBalancing::least_request, endpoints.all(), {}, kNow)->active_requests;
  for (size_t i = 0; i < 10; ++i) EXPECT_NEAR(endpoints[i].active_requests, 1000, 10);
}

TEST(Balancer, TheTriedAreNeverPickedAgain) {
  for (auto policy : kPolicies) {
    Endpoints endpoints(3);
    Balancer balancer(5);
    std::vector<const EndpointState*> tried{&endpoints[0], &endpoints[2]};
    for (int i = 0; i < 50; ++i) EXPECT_EQ(balancer.pick(policy, endpoints.all(), tried, kNow), &endpoints[1]);
    tried.push_back(&endpoints[1]);
    EXPECT_EQ(balancer.pick(policy, endpoints.all(), tried, kNow), nullptr);
  }
}

TEST(Balancer, TheAvoidedArePickedOnlyWhenNoOtherIsLeft) {
  for (auto policy : kPolicies) {
    Endpoints endpoints(2);
    Balancer balancer(5);
    endpoints[0].avoid_until = kNow + std::chrono::seconds(1);
    for (int i = 0; i < 50; ++i) EXPECT_EQ(balancer.pick(policy, endpoints.all(), {}, kNow), &endpoints[1]);
    endpoints[1].avoid_until = kNow + std::chrono::seconds(1);
    EXPECT_NE(balancer.pick(policy, endpoints.all(), {}, kNow), nullptr);
    std::vector<const EndpointState*> tried{&endpoints[1]};
    EXPECT_EQ(balancer.pick(policy, endpoints.all(), tried, kNow), &endpoints[0]);
  }
}

TEST(Affinity, AClientStaysWhileItCallsAndItsEndpointIsThere) {
  using std::chrono::seconds;
  Endpoints endpoints(10);
  for (size_t i = 0; i < 10; ++i) endpoints[i].endpoint.address.port = static_cast<uint16_t>(1000 + i);
  Affinity affinity;
  auto nine = endpoints.all().first(9);
  EndpointState* chosen = affinity.pick(7, seconds(10), nine, kNow);
  ASSERT_NE(chosen, nullptr);
  for (int i = 1; i < 100; ++i)
    EXPECT_EQ(affinity.pick(7, seconds(10), endpoints.all(), kNow + seconds(9) * i), chosen)
        << "a new one changes nothing";
  std::vector<EndpointState*> others;
  for (EndpointState* e : endpoints.all())
    if (e != chosen) others.push_back(e);
  EndpointState* next = affinity.pick(7, seconds(10), others, kNow + seconds(900));
  EXPECT_NE(next, chosen);
  EXPECT_EQ(affinity.pick(7, seconds(10), endpoints.all(), kNow + seconds(901)), next) << "it stays there";
  Affinity another;
  EXPECT_EQ(another.pick(7, seconds(10), nine, kNow), chosen) << "the same for the same client";
  next->avoid_until = kNow + seconds(1000);
  EXPECT_EQ(affinity.pick(7, seconds(10), endpoints.all(), kNow + seconds(902)), nullptr);
  EXPECT_EQ(affinity.pick(7, seconds(10), {}, kNow), nullptr);
}

TEST(Affinity, ClientsSpread) {
  Endpoints endpoints(5);
  for (size_t i = 0; i < 5; ++i) endpoints[i].endpoint.address.port = static_cast<uint16_t>(1000 + i);
  std::vector<int> clients(5);
  for (uint64_t client = 0; client < 5000; ++client) {
    Affinity affinity;
    ++clients[endpoints.index(
        affinity.pick(client * 0x9E3779B97F4A7C15ull, std::chrono::hours(3), endpoints.all(), kNow))];
  }
  for (const int n : clients) EXPECT_NEAR(n, 1000, 150);  // more than five standard deviations
}

}  // namespace
}  // namespace weir::clusters
