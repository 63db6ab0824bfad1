#include "clusters/balancer.h"

#include <algorithm>

namespace weir::clusters {
namespace {

// Before all endpoints are looked at for those that may be picked.
constexpr int kDraws = 4;

uint64_t mixed(uint64_t x) {  // splitmix64's finalizer
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t Balancer::random() {  // xorshift64*
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return random_ * 0x2545F4914F6CDD1Dull;
}

EndpointState* Balancer::pick(config::LoadBalancing policy, std::span<EndpointState* const> endpoints,
                              std::span<const EndpointState* const> tried, base::Instant now) {
  const auto count = static_cast<uint32_t>(endpoints.size());
  if (count == 0) return nullptr;
  const auto was_tried = [&](const EndpointState* e) {
    return std::find(tried.begin(), tried.end(), e) != tried.end();
  };
  const auto preferred = [&](const EndpointState* e) { return e->avoid_until <= now && !was_tried(e); };
  // One that is `allowed`, each with equal chance: going on from a draw that isn't would give whoever comes after those
  // left out their share. All are looked at only where so many are left out that few draws succeed.
  const auto any = [&](const auto& allowed) -> EndpointState* {
    for (int draw = 0; draw < kDraws; ++draw) {
      EndpointState* drawn = endpoints[below(count)];
      if (allowed(drawn)) return drawn;
    }
    auto left = static_cast<uint32_t>(std::count_if(endpoints.begin(), endpoints.end(), allowed));
    if (left == 0) return nullptr;
    left = below(left);
    return *std::find_if(endpoints.begin(), endpoints.end(),
                         [&](const EndpointState* e) { return allowed(e) && left-- == 0; });
  };

  EndpointState* choice = nullptr;
  switch (policy) {
    case config::LoadBalancing::round_robin:
      // Those passed over have had their turn, or who comes after them would have two.
      for (uint32_t i = 0; i < count && !choice; ++i) {
        turn_ = (turn_ + 1) % count;
        if (preferred(endpoints[turn_])) choice = endpoints[turn_];
      }
      break;
    case config::LoadBalancing::random:
      choice = any(preferred);
      break;
    case config::LoadBalancing::least_request: {
      choice = any(preferred);
      if (!choice || count == 1) break;
      const EndpointState* first = choice;
      EndpointState* other = any([&](const EndpointState* e) { return e != first && preferred(e); });
      if (other && other->active_requests < first->active_requests) choice = other;
      break;
    }
  }
  return choice ? choice : any([&](const EndpointState* e) { return !was_tried(e); });
}

EndpointState* Affinity::pick(uint64_t client, base::Duration timeout, std::span<EndpointState* const> endpoints,
                              base::Instant now) {
  EndpointState* found = nullptr;
  if (last_ != base::Instant{} && now - last_ < timeout) {
    const auto known = std::find_if(endpoints.begin(), endpoints.end(),
                                    [&](const EndpointState* e) { return e->endpoint.address == chosen_; });
    if (known != endpoints.end()) found = *known;
  }
  if (!found) {
    uint64_t highest = 0;
    for (EndpointState* e : endpoints) {
      const uint64_t weight = mixed(client ^ std::hash<base::SocketAddress>()(e->endpoint.address));
      if (found && weight < highest) continue;
      found = e;
      highest = weight;
    }
  }
  if (!found || found->avoid_until > now) return nullptr;
  chosen_ = found->endpoint.address;
  last_ = now;
  return found;
}

}  // namespace weir::clusters
