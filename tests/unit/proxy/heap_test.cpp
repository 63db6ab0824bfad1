// What a worker's arena gives back to the kernel. The sanitizers have allocators of their own, for which none of it
// holds.
#include "proxy/heap.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#ifndef WEIR_SANITIZER_ALLOCATES
namespace weir::proxy {
namespace {

constexpr size_t kBlock = 4000, kBlocks = 4000;

size_t resident_bytes() {
  size_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// With its memory at the end of the arena, and below something that stays.
TEST(Heap, GivesBackWhatABurstTook) {
  set_up_heap(1);
  std::thread([] {
    for (const bool something_stays : {false, true}) {
      const size_t before = resident_bytes();
      std::vector<std::unique_ptr<char[]>> blocks;
      for (size_t i = 0; i < kBlocks; ++i) {
        blocks.push_back(std::make_unique<char[]>(kBlock));
        std::memset(blocks.back().get(), 1, kBlock);
      }
      const size_t most = resident_bytes();
      EXPECT_GT(most, before + kBlock * kBlocks * 9 / 10);
      blocks.erase(blocks.begin(), blocks.end() - (something_stays ? 1 : 0));
      EXPECT_GT(resident_bytes(), most - kBlock * kBlocks / 10) << "which is what Worker must ask for";
      give_heap_back();
      EXPECT_LT(resident_bytes(), before + kBlock * kBlocks / 10) << something_stays;
    }
  }).join();
}

}  // namespace
}  // namespace weir::proxy
#endif
