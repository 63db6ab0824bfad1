// What weights promise, for vectors of them drawn at random. chance.h says what the bounds are.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "../chance.h"
#include "routing/match.h"

namespace weir::routing {
namespace {

using chance::between;
using chance::for_seeds;
using Destinations = std::vector<config::RouteDestination>;

// The sum of a rule's weights has 32 bits (what has more is rejected where it is read).
constexpr uint64_t kMost = UINT32_MAX;

uint64_t total(const Destinations& destinations) {
  return std::accumulate(destinations.begin(), destinations.end(), uint64_t{0},
                         [](uint64_t sum, const auto& destination) { return sum + destination.weight; });
}

// Of one to ten destinations, alike or not, up to the greatest there may be; about a third are zero, but not all.
Destinations some_weights(std::mt19937_64& random) {
  Destinations destinations(between(random, 1, 10));
  const uint64_t zeros = between(random, 0, 2);
  for (auto& destination : destinations) {
    const uint64_t most = std::vector<uint64_t>{3, 100, 10'000, kMost}[between(random, 0, 3)];
    destination.weight = static_cast<uint32_t>(between(random, 0, 2) < zeros ? 0 : between(random, 1, most));
  }
  if (total(destinations) == 0) destinations[between(random, 0, destinations.size() - 1)].weight = 1;
  while (total(destinations) > kMost)
    for (auto& destination : destinations) destination.weight -= destination.weight / 2;
  return destinations;
}

std::vector<uint32_t> weights(const Destinations& destinations) {
  std::vector<uint32_t> result;
  for (const auto& destination : destinations) result.push_back(destination.weight);
  return result;
}

size_t chosen(const Destinations& destinations, uint64_t random) {
  return static_cast<size_t>(choose(destinations, random) - destinations.data());
}

constexpr uint64_t kDraws = 20'000;

TEST(ChooseProperties, SharesFollowTheWeightsAndZeroIsNeverChosen) {
  for_seeds(300, [](std::mt19937_64& random) {
    const Destinations destinations = some_weights(random);
    SCOPED_TRACE(::testing::PrintToString(weights(destinations)));
    std::vector<uint64_t> counts(destinations.size());
    for (uint64_t i = 0; i < kDraws; ++i) ++counts[chosen(destinations, random())];
    for (size_t i = 0; i < counts.size(); ++i) {
      const double share = destinations[i].weight / static_cast<double>(total(destinations));
      EXPECT_TRUE(chance::plausible(counts[i], kDraws, share)) << counts[i] << " of " << kDraws << " for number " << i;
    }
  });
}

// 90 and 10 mean what 9 and 1 mean: for each random number the same destination.
TEST(ChooseProperties, WeightsAreRelative) {
  for_seeds(300, [](std::mt19937_64& random) {
    const Destinations destinations = some_weights(random);
    const uint64_t factor = between(random, 1, kMost / total(destinations));
    Destinations scaled = destinations;
    for (auto& destination : scaled) destination.weight = static_cast<uint32_t>(destination.weight * factor);
    for (int i = 0; i < 200; ++i) {
      const uint64_t number = random();
      EXPECT_EQ(chosen(scaled, number), chosen(destinations, number)) << "times " << factor;
    }
  });
}

// The least and the greatest random number, too, choose one with a weight: the first and the last of these.
TEST(ChooseProperties, NoRandomNumberFallsBesideTheWeights) {
  for_seeds(300, [](std::mt19937_64& random) {
    const Destinations destinations = some_weights(random);
    const auto weighs = [](const auto& destination) { return destination.weight > 0; };
    const auto first = std::find_if(destinations.begin(), destinations.end(), weighs);
    const auto last = std::find_if(destinations.rbegin(), destinations.rend(), weighs);
    EXPECT_EQ(choose(destinations, 0), &*first) << ::testing::PrintToString(weights(destinations));
    EXPECT_EQ(choose(destinations, UINT64_MAX), &*last) << ::testing::PrintToString(weights(destinations));
  });
}

}  // namespace
}  // namespace weir::routing
