#include "counting_allocator.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
thread_local uint64_t count = 0;
std::atomic<int64_t> live{0};

void taken() {
  ++count;
  live.fetch_add(1, std::memory_order_relaxed);
}
void given_back(const volatile void* memory) {
  if (memory) live.fetch_sub(1, std::memory_order_relaxed);
}
}  // namespace

uint64_t weir::telemetry::allocations() { return count; }
int64_t weir::telemetry::live_allocations() { return live.load(std::memory_order_relaxed); }

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_TSAN 1
#endif
#endif

#ifdef WEIR_TSAN
// Its runtime has operators of its own, which leave no room for others.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void*, size_t),
                                                         void (*free_hook)(const volatile void*));
namespace {
const int kHooked =
    __sanitizer_install_malloc_and_free_hooks([](const volatile void*, size_t) { taken(); }, given_back);
}
#else
void* operator new(size_t size) {
  taken();
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  given_back(memory);
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
#endif
