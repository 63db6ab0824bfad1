#include "http2/pool.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <new>

// Blocks in a free list are poisoned for AddressSanitizer, or the pool would hide every use after give().
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEIR_POISON_FREE_BLOCKS 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define WEIR_POISON_FREE_BLOCKS 1
#endif
#ifdef WEIR_POISON_FREE_BLOCKS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, size) static_cast<void>(0)
#endif

namespace weir::http2::pool {
namespace {

constexpr size_t kClasses = 9;  // 64 << 0 .. 64 << 8
constexpr size_t kKeptPerClass = 4u << 20;
static_assert(kSmallestBlock << (kClasses - 1) == kLargestBlock);

struct FreeBlock {
  FreeBlock* next;
};

struct FreeLists {
  struct List {
    FreeBlock* first = nullptr;
    size_t bytes = 0;
    size_t unneeded = 0;  // the least that `bytes` has been since the last trim()
  };
  std::array<List, kClasses> lists;

  ~FreeLists() {
    for (List& list : lists) {
      while (FreeBlock* block = list.first) {
        ASAN_UNPOISON_MEMORY_REGION(block, sizeof *block);
        list.first = block->next;
        std::free(block);
      }
    }
  }
};

thread_local FreeLists free_lists;

size_t class_of(size_t size) {
  return size <= kSmallestBlock ? 0 : static_cast<size_t>(std::bit_width((size - 1) / kSmallestBlock));
}

void* allocate(size_t size) {
  void* block = std::malloc(size);
  if (!block) throw std::bad_alloc();
  return block;
}

}  // namespace

void* take(size_t size) {
  if (size > kLargestBlock) return allocate(size);
  const size_t index = class_of(size);
  FreeLists::List& list = free_lists.lists[index];
  FreeBlock* block = list.first;
  if (!block) return allocate(kSmallestBlock << index);
  ASAN_UNPOISON_MEMORY_REGION(block, kSmallestBlock << index);
  list.first = block->next;
  list.bytes -= kSmallestBlock << index;
  list.unneeded = std::min(list.unneeded, list.bytes);
  return block;
}

void give(void* memory, size_t size) {
  if (!memory) return;
  if (size > kLargestBlock) return std::free(memory);
  const size_t index = class_of(size);
  FreeLists::List& list = free_lists.lists[index];
  if (list.bytes >= kKeptPerClass) return std::free(memory);
  list.first = new (memory) FreeBlock{list.first};
  list.bytes += kSmallestBlock << index;
  ASAN_POISON_MEMORY_REGION(memory, kSmallestBlock << index);
}

size_t trim() {
  size_t freed = 0;
  for (size_t index = 0; index < kClasses; ++index) {
    FreeLists::List& list = free_lists.lists[index];
    const size_t size = kSmallestBlock << index;
    for (size_t blocks = (list.unneeded / size + 1) / 2; blocks > 0; --blocks) {
      FreeBlock* block = list.first;
      ASAN_UNPOISON_MEMORY_REGION(block, size);
      list.first = block->next;
      list.bytes -= size;
      freed += size;
      std::free(block);
    }
    list.unneeded = list.bytes;
  }
  return freed;
}

base::Buffer* take_buffer(size_t block_size) {
  void* block = take(block_size);
  auto* bytes = static_cast<uint8_t*>(block) + sizeof(base::Buffer);
  return new (block)
      base::Buffer(bytes, static_cast<uint32_t>(block_size - sizeof(base::Buffer)),
                   [](base::Buffer* buffer) { give(buffer, buffer->capacity() + sizeof(base::Buffer)); });
}

}  // namespace weir::http2::pool
