// Memory that a thread keeps for reuse: blocks of power-of-two classes up to 16 KB
// from free lists, larger ones from malloc. What the engine takes and gives back on
// every RPC (output chunks, HPACK entries, copies of small queued payloads) comes from
// here, so that connections share it and an idle one holds none.
//
// A block may be given back on another thread than it was taken on.
#pragma once

#include <cstddef>
#include <vector>

#include "base/buffer.h"

namespace weir::http2::pool {

inline constexpr size_t kSmallestBlock = 64;
inline constexpr size_t kLargestBlock = 16384;

void* take(size_t size);
void give(void* block, size_t size);  // `size` as taken
// Frees half of what this thread has not needed since the last call. Returns the bytes freed.
size_t trim();

// A Buffer and its bytes in one block of `block_size`; it returns to the pool with its last Slice.
base::Buffer* take_buffer(size_t block_size);

template <class T>
struct Allocator {
  using value_type = T;
  Allocator() = default;
  template <class U>
  Allocator(const Allocator<U>&) {}  // NOLINT(google-explicit-constructor)
  T* allocate(size_t n) { return static_cast<T*>(take(n * sizeof(T))); }
  void deallocate(T* p, size_t n) { give(p, n * sizeof(T)); }
  bool operator==(const Allocator&) const { return true; }
};

template <class T>
using Vector = std::vector<T, Allocator<T>>;

}  // namespace weir::http2::pool
