#include "proxy/heap.h"

#include <malloc.h>

#include <climits>
#include <cstdlib>

namespace weir::proxy {
namespace {
constexpr uint32_t kOtherArenas = 4;            // main's, the two logs', and one for all later threads
constexpr size_t kLargeForTheArena = 64 << 10;  // freeing as much makes glibc look at the end of the arena
}  // namespace

void set_up_heap(uint32_t workers) {
  mallopt(M_ARENA_MAX, static_cast<int>(workers + kOtherArenas));
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
}

void give_heap_back() {
  malloc_trim(0);
  // That leaves the end of every arena but main's as it is; only a free() cuts it, if it is above the threshold. What
  // another thread frees at the same moment may be cut too.
  mallopt(M_TRIM_THRESHOLD, 0);
  void* volatile block = std::malloc(kLargeForTheArena);  // volatile: or the pair would be optimised away
  std::free(block);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
}

}  // namespace weir::proxy
