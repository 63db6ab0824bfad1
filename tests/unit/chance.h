// For properties of random choices: inputs drawn from a generator whose seed is printed on failure, and the most that
// chance explains. Seeds are fixed, so a test that passes passes again; the bounds are such that other seeds, or a
// change of the generator under test, wouldn't fail a correct product either.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>

namespace weir::chance {

// Of one check. All properties together make less than 100,000, so that false alarms of all are below 1e-6.
inline constexpr double kFalseAlarm = 1e-11;

// Whether an event of that probability, independent each time, happens `hits` times in so many `draws` with more than
// kFalseAlarm: by Chernoff's bound, 2 exp(-draws KL(hits/draws || probability)), which holds for every probability and
// however few the draws (a normal approximation doesn't, for rare events). 0 is never, 1 always.
inline bool plausible(uint64_t hits, uint64_t draws, double probability) {
  const double share = static_cast<double>(hits) / static_cast<double>(draws);
  const auto part = [](double p, double q) { return p == 0 ? 0 : q <= 0 ? INFINITY : p * std::log(p / q); };
  const double divergence = part(share, probability) + part(1 - share, 1 - probability);
  return 2 * std::exp(-static_cast<double>(draws) * divergence) > kFalseAlarm;
}

inline uint64_t between(std::mt19937_64& random, uint64_t least, uint64_t most) {
  return std::uniform_int_distribution<uint64_t>(least, most)(random);
}

// Calls property(random) once a seed, until one fails.
template <typename Property>
void for_seeds(uint64_t count, const Property& property) {
  for (uint64_t seed = 1; seed <= count && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    property(random);
  }
}

}  // namespace weir::chance
