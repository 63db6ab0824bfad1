// What each policy promises, for endpoints, loads and exclusions drawn at random. chance.h says what the bounds are.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "../chance.h"
#include "clusters/balancer.h"
#include "endpoints.h"

namespace weir::clusters {
namespace {

using chance::between;
using chance::for_seeds;
using chance::plausible;
using config::LoadBalancing;

constexpr LoadBalancing kPolicies[] = {LoadBalancing::least_request, LoadBalancing::round_robin, LoadBalancing::random};
// Picks for each endpoint: a share of twice or half of what it should be is out of every bound, of 1.3 times mostly.
constexpr uint64_t kEach = 500;

// Few endpoints as often as many: 1 to 200.
size_t some_count(std::mt19937_64& random) { return between(random, 1, between(random, 0, 1) == 0 ? 5 : 200); }

// Endpoints of which some are ejected (a pool leaves those out), to be avoided, or tried by this request already.
struct Drawn {
  explicit Drawn(std::mt19937_64& random) : endpoints(some_count(random)), balancer(random()) {
    const uint64_t excluded = between(random, 0, 3);  // of four
    for (EndpointState* e : endpoints.all()) {
      const uint64_t fate = between(random, 0, 3) < excluded ? between(random, 0, 2) : 3;
      if (fate == 0) continue;
      offered.push_back(e);
      if (fate == 1) tried.push_back(e);
      if (fate == 2) e->avoid_until = kNow + base::Duration(1);
      if (fate == 2) avoided.push_back(e);
      if (fate == 3) best.push_back(e);
    }
  }
  EndpointState* pick(LoadBalancing policy) { return balancer.pick(policy, offered, tried, kNow); }
  // Those that may be picked: the avoided ones only if there is nothing better.
  const std::vector<EndpointState*>& eligible() const { return best.empty() ? avoided : best; }
  // Of so many picks: how many went to each endpoint.
  std::vector<uint64_t> picks(LoadBalancing policy, uint64_t count) {
    std::vector<uint64_t> result(endpoints.all().size());
    for (uint64_t i = 0; i < count; ++i) ++result[endpoints.index(pick(policy))];
    return result;
  }

  Endpoints endpoints;
  std::vector<EndpointState*> offered, best, avoided;
  std::vector<const EndpointState*> tried;
  Balancer balancer;
};

// `shares`: what each endpoint should have had of the draws, in parts of 1.
void expect_shares(const std::vector<uint64_t>& picks, uint64_t draws, const std::vector<double>& shares) {
  for (size_t i = 0; i < picks.size(); ++i)
    ASSERT_TRUE(plausible(picks[i], draws, shares[i]))
        << "endpoint " << i << " of " << picks.size() << " had " << picks[i] << " of " << draws << ", not "
        << shares[i] * static_cast<double>(draws);
}

TEST(BalancerProperties, IdleEndpointsAreAllAsLikelyWhateverIsExcluded) {
  for (const auto policy : kPolicies) {
    SCOPED_TRACE(static_cast<int>(policy));
    for_seeds(60, [&](std::mt19937_64& random) {
      Drawn drawn(random);
      const auto& eligible = drawn.eligible();
      if (eligible.empty()) {
        EXPECT_EQ(drawn.pick(policy), nullptr);
        return;
      }
      std::vector<double> shares(drawn.endpoints.all().size());
      for (const EndpointState* e : eligible)
        shares[drawn.endpoints.index(e)] = 1 / static_cast<double>(eligible.size());
      const uint64_t draws = kEach * eligible.size();
      expect_shares(drawn.picks(policy, draws), draws, shares);
    });
  }
}

// The first pick of each of many pods' balancers: what counts where each pod calls seldom. Seeds are as a worker gives
// them.
TEST(BalancerProperties, ManyBalancersDoNotAllBeginWithTheSameEndpoint) {
  for (const auto policy : kPolicies) {
    SCOPED_TRACE(static_cast<int>(policy));
    for_seeds(20, [&](std::mt19937_64& random) {
      Endpoints endpoints(some_count(random));
      const size_t count = endpoints.all().size();
      const uint64_t draws = kEach * count;
      uint64_t seed = random();
      std::vector<uint64_t> picks(count);
      for (uint64_t i = 0; i < draws; ++i) {
        Balancer balancer(seed += 0x9E3779B97F4A7C15ull);
        ++picks[endpoints.index(balancer.pick(policy, endpoints.all(), {}, kNow))];
      }
      expect_shares(picks, draws, std::vector<double>(count, 1 / static_cast<double>(count)));
    });
  }
}

// Of two different ones, drawn with equal chance, the one with fewer active requests; either of two that have as many.
TEST(BalancerProperties, LeastRequestPicksTheLessBusyOfAnyTwo) {
  for_seeds(60, [](std::mt19937_64& random) {
    Drawn drawn(random);
    const uint64_t busiest = between(random, 1, 20);
    for (EndpointState* e : drawn.offered) e->active_requests = static_cast<uint32_t>(between(random, 0, busiest));
    const auto& best = drawn.best;
    if (best.size() < 2) return;
    std::vector<double> shares(drawn.endpoints.all().size());
    for (const EndpointState* e : best) {
      const auto has = [&](auto predicate) {
        return static_cast<double>(std::count_if(best.begin(), best.end(), predicate));
      };
      const double busier = has([&](const auto* o) { return o->active_requests > e->active_requests; });
      const double equal = has([&](const auto* o) { return o->active_requests == e->active_requests; }) - 1;
      const auto count = static_cast<double>(best.size());
      shares[drawn.endpoints.index(e)] = (busier + equal / 2) * 2 / (count * (count - 1));
    }
    const uint64_t draws = kEach * best.size();
    expect_shares(drawn.picks(LoadBalancing::least_request, draws), draws, shares);
  });
}

// A closed loop: `calls` under way all the time, each ends after a random time; at one endpoint the times are ten times
// as long. The counts of such picks vary less than those of independent ones: who was picked is less likely to be next.
std::vector<uint64_t> closed_loop(std::mt19937_64& random, Endpoints& endpoints, uint64_t calls, uint64_t draws,
                                  const EndpointState* slow) {
  Balancer balancer(random());
  std::vector<EndpointState*> under_way;
  std::vector<uint64_t> picks(endpoints.all().size());
  for (uint64_t i = 0; i < draws; ++i) {
    while (under_way.size() >= calls) {
      EndpointState*& ending = under_way[between(random, 0, under_way.size() - 1)];
      if (ending == slow && between(random, 1, 10) > 1) continue;
      --ending->active_requests;
      ending = under_way.back();
      under_way.pop_back();
    }
    under_way.push_back(balancer.pick(LoadBalancing::least_request, endpoints.all(), {}, kNow));
    ++under_way.back()->active_requests;
    ++picks[endpoints.index(under_way.back())];
  }
  return picks;
}

TEST(BalancerProperties, LeastRequestStaysEvenOverTimeAtLowLoad) {
  for_seeds(60, [](std::mt19937_64& random) {
    Endpoints endpoints(some_count(random));
    const size_t count = endpoints.all().size();
    const uint64_t draws = kEach * count;
    const auto picks = closed_loop(random, endpoints, between(random, 1, 1 + count / 4), draws, nullptr);
    expect_shares(picks, draws, std::vector<double>(count, 1 / static_cast<double>(count)));
  });
}

TEST(BalancerProperties, LeastRequestGivesASlowEndpointFewer) {
  for_seeds(60, [](std::mt19937_64& random) {
    Endpoints endpoints(between(random, 2, 50));
    const size_t count = endpoints.all().size();
    const size_t slow = between(random, 0, count - 1);
    const uint64_t draws = kEach * count;
    const auto picks = closed_loop(random, endpoints, between(random, 2 * count, 10 * count), draws, &endpoints[slow]);
    EXPECT_LT(picks[slow], kEach / 2) << "of " << count;
  });
}

TEST(BalancerProperties, RoundRobinGivesEachAsManyInEveryRound) {
  for_seeds(60, [](std::mt19937_64& random) {
    Drawn drawn(random);
    if (drawn.best.empty()) return;
    std::vector<uint64_t> expected(drawn.endpoints.all().size());
    for (const EndpointState* e : drawn.best) expected[drawn.endpoints.index(e)] = 1;
    for (int round = 0; round < 20; ++round)
      EXPECT_EQ(drawn.picks(LoadBalancing::round_robin, drawn.best.size()), expected) << "round " << round;
  });
}

}  // namespace
}  // namespace weir::clusters
