#include "proxy/heap.h"

#include <malloc.h>

#include <climits>
#include <cstdlib>
#include <mutex>

namespace weir::proxy {
namespace {
constexpr uint32_t kOtherArenas = 4;            // main's, the two logs', and one for all later threads
constexpr size_t kLargeForTheArena = 64 << 10;  // freeing as much makes glibc look at the end of the arena

// glibc calls mallopt() unsafe beside other threads, since it changes what they read. Of the threshold they read one
// value or the other, and either will do.
void set_trim_threshold(int bytes) {
  mallopt(M_TRIM_THRESHOLD, bytes);  // NOLINT(concurrency-mt-unsafe)
}

}  // namespace

void set_up_heap(uint32_t workers) {
  mallopt(M_ARENA_MAX, static_cast<int>(workers + kOtherArenas));  // NOLINT(concurrency-mt-unsafe)
  set_trim_threshold(INT_MAX);
}

void give_heap_back() {
  malloc_trim(0);
  // That leaves the end of every arena but main's as it is; only a free() cuts it, if it is above the threshold. What
  // another thread frees at the same moment may be cut too.
  static std::mutex one_at_a_time;
  std::lock_guard lock(one_at_a_time);
  set_trim_threshold(0);
  void* volatile block = std::malloc(kLargeForTheArena);  // volatile: or the pair would be optimised away
  std::free(block);
  set_trim_threshold(INT_MAX);
}

}  // namespace weir::proxy
