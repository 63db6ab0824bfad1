// The ring of buffers that the kernel receives into (io_uring provided buffers),
// kept stocked from a free list that grows on demand up to a limit. A buffer goes
// back to the free list when the last Slice of it is gone. One per reactor.
//
// The kernel takes buffers in the order in which they were added: a ring of many would have every receive write to
// memory that has long left the cache. So it holds about twice what the busiest turn of late has taken.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <vector>

#include "base/buffer.h"

namespace weir::io {

class ReceiveBuffers {
 public:
  static constexpr uint32_t kBufferSize = 16 * 1024;
  static constexpr uint32_t kRingEntries = 256;  // the most that wait in the ring, a power of two
  static constexpr uint32_t kLeastStock = 16;    // and the fewest
  static constexpr uint16_t kGroup = 1;

  // `max_buffers` bounds the memory that received bytes can hold.
  ReceiveBuffers(io_uring& ring, uint32_t max_buffers);
  ~ReceiveBuffers();
  ReceiveBuffers(const ReceiveBuffers&) = delete;
  ReceiveBuffers& operator=(const ReceiveBuffers&) = delete;

  // The bytes of a completed receive. Call once for each completion that carries a buffer.
  base::Slice take(uint16_t buffer_id, uint32_t size);
  // A receive found the ring empty (-ENOBUFS): the next restock() puts in twice as many.
  void ran_out() { ran_out_ = true; }
  // Refills the ring; once a turn.
  void restock();
  // Once a second, between turns: fits the stock to what was taken since the last call, and gives the kernel the memory
  // of half the buffers that nobody needed since then, and of those in the ring beyond the stock.
  void trim();
  // restock() would have something to add.
  bool can_restock() const { return !free_.empty() || can_grow(); }
  uint32_t allocated() const { return static_cast<uint32_t>(buffers_.size()); }
  // Of those, the ones that wait for a receive after restock().
  uint32_t stock() const { return stock_; }
  // And the ones that Slices refer to.
  uint32_t held() const { return allocated() - in_ring_ - static_cast<uint32_t>(free_.size()); }

 private:
  struct PooledBuffer;
  struct Block;
  static void recycle(base::Buffer* buffer);
  bool can_grow() const;
  bool grow();
  void empty_the_excess();

  io_uring& ring_;
  io_uring_buf_ring* buffer_ring_ = nullptr;
  uint32_t max_buffers_;
  uint32_t in_ring_ = 0;
  uint32_t stock_ = 64;
  uint32_t taken_ = 0;       // in this turn
  uint32_t most_taken_ = 0;  // in one turn since the last trim()
  bool ran_out_ = false;
  uint32_t emptied_ = 0;                // of those in the ring, so many of the newest have no memory
  std::vector<PooledBuffer*> buffers_;  // by buffer id
  std::vector<uint16_t> free_;          // last in, first out: warm in the cache
  size_t unneeded_ = 0;                 // the fewest that were free since the last trim()
  size_t without_memory_ = 0;           // that many at the beginning of free_
};

}  // namespace weir::io
