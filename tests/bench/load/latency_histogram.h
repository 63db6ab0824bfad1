// Latencies in buckets of at most 1/64 of their value, from 1 ns to 70 minutes (log-linear, as HdrHistogram).
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace bench {

class LatencyHistogram {
 public:
  void record(uint64_t ns) {
    counts_[bucket(ns)]++;
    count_++;
    sum_ += ns;
    max_ = std::max(max_, ns);
  }

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }
  double mean() const { return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_); }

  // The upper end of the bucket below which `part` (0 to 1) of the latencies lie.
  uint64_t percentile(double part) const {
    const auto wanted = static_cast<uint64_t>(part * static_cast<double>(count_));
    uint64_t seen = 0;
    for (size_t i = 0; i < counts_.size(); i++) {
      seen += counts_[i];
      if (seen > wanted) return i + 1 == counts_.size() ? max_ : std::min(upper(i), max_);
    }
    return max_;
  }

 private:
  static constexpr unsigned kLinearBits = 6;

  // Below 128 ns a bucket a value; above, the six bits behind the highest one choose the bucket.
  static size_t bucket(uint64_t ns) {
    const unsigned width = static_cast<unsigned>(std::bit_width(ns));
    const unsigned shift = width > kLinearBits + 1 ? width - kLinearBits - 1 : 0;
    return std::min<size_t>((size_t{shift} << kLinearBits) + (ns >> shift), std::tuple_size_v<decltype(counts_)> - 1);
  }
  static uint64_t upper(size_t bucket) {
    const size_t shift = bucket < (2u << kLinearBits) ? 0 : (bucket >> kLinearBits) - 1;
    const uint64_t value = bucket - (shift << kLinearBits);
    return ((value + 1) << shift) - 1;
  }

  std::array<uint64_t, 38 * 64> counts_{};
  uint64_t count_ = 0, sum_ = 0, max_ = 0;
};

}  // namespace bench
