// Counters with one writer and any number of readers. The writer pays a plain
// load, add and store (no lock prefix); a reader may see a value that is a few
// additions old, never a torn one.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace weir::telemetry {

class Counter {
 public:
  void add(uint64_t n) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  uint64_t read() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Envoy's default histogram buckets, which Istio's metrics use for milliseconds and for bytes.
inline constexpr std::array<double, 19> kBuckets = {
    0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};

// `Unit` is how many units of the recorded integer make one of the buckets' unit: 1,000,000
// for nanoseconds shown as milliseconds, 1 for bytes.
template <uint64_t Unit>
class Histogram {
 public:
  void record(uint64_t value) {
    size_t bucket = 0;  // small values dominate: a linear search ends early
    while (bucket < kBounds.size() && value > kBounds[bucket]) ++bucket;
    buckets_[bucket].add(1);
    sum_.add(value);
  }
  uint64_t bucket(size_t i) const { return buckets_[i].read(); }
  double sum() const { return static_cast<double>(sum_.read()) / static_cast<double>(Unit); }
  uint64_t count() const {
    uint64_t total = 0;
    for (const Counter& bucket : buckets_) total += bucket.read();
    return total;
  }

 private:
  static constexpr auto kBounds = [] {
    std::array<uint64_t, kBuckets.size()> bounds{};
    for (size_t i = 0; i < bounds.size(); ++i) bounds[i] = static_cast<uint64_t>(kBuckets[i] * Unit);
    return bounds;
  }();
  std::array<Counter, kBuckets.size() + 1> buckets_;
  Counter sum_;
};

// Objects that one thread adds and others read, up to a fixed number. Adding never blocks a
// reader; retain() needs readers to be kept out.
template <class T>
class PublishedList {
 public:
  explicit PublishedList(size_t capacity)
      : slots_(std::make_unique<std::unique_ptr<T>[]>(capacity)), capacity_(capacity) {}

  size_t size() const { return size_.load(std::memory_order_acquire); }
  size_t capacity() const { return capacity_; }
  bool full() const { return size() == capacity_; }
  T& operator[](size_t i) const { return *slots_[i]; }
  T& push(std::unique_ptr<T> value) {
    const size_t at = size_.load(std::memory_order_relaxed);
    slots_[at] = std::move(value);
    size_.store(at + 1, std::memory_order_release);
    return *slots_[at];
  }
  template <class Keep>
  void retain(Keep keep) {
    const size_t before = size();
    auto* end = std::remove_if(slots_.get(), slots_.get() + before, [&](auto& slot) { return !keep(*slot); });
    const auto kept = static_cast<size_t>(end - slots_.get());
    for (size_t i = kept; i < before; ++i) slots_[i].reset();
    size_.store(kept, std::memory_order_release);
  }

 private:
  std::unique_ptr<std::unique_ptr<T>[]> slots_;
  size_t capacity_;
  std::atomic<size_t> size_{0};
};

}  // namespace weir::telemetry
