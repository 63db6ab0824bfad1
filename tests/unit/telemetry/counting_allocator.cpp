#include "counting_allocator.h"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace {
thread_local uint64_t count = 0;
}

uint64_t weir::telemetry::allocations() { return count; }

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
const int kHooked = __sanitizer_install_malloc_and_free_hooks([](const volatile void*, size_t) { ++count; },
                                                              [](const volatile void*) {});
}
#else
void* operator new(size_t size) {
  ++count;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif
