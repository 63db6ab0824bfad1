#include "io/receive_buffers.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <new>
#include <stdexcept>
#include <utility>

#include "base/result.h"

namespace weir::io {
namespace {
constexpr uint32_t kBlock = 64;         // buffers allocated at a time
constexpr size_t kTrimmedAtOnce = 512;  // bounds what a trim() takes: under a millisecond
}  // namespace

struct ReceiveBuffers::PooledBuffer : base::Buffer {
  PooledBuffer(ReceiveBuffers& owner, uint16_t buffer_id, uint8_t* data)
      : Buffer(data, kBufferSize, &ReceiveBuffers::recycle), pool(owner), id(buffer_id) {}
  ReceiveBuffers& pool;
  uint16_t id;
};

// What is mapped at a time: the bytes of kBlock buffers, and behind them the objects. Those are never freed; among what
// a connection has, in the heap, each would keep its page from going back.
struct ReceiveBuffers::Block {
  uint8_t bytes[kBlock][kBufferSize];
  alignas(PooledBuffer) uint8_t objects[kBlock][sizeof(PooledBuffer)];
};

ReceiveBuffers::ReceiveBuffers(io_uring& ring, uint32_t max_buffers) : ring_(ring), max_buffers_(max_buffers) {
  assert(max_buffers <= 65536);
  const size_t bytes = kRingEntries * sizeof(io_uring_buf);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for the ring of receive buffers");
  buffer_ring_ = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(buffer_ring_);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uint64_t>(buffer_ring_);
  registration.ring_entries = kRingEntries;
  registration.bgid = kGroup;
  if (const int error = io_uring_register_buf_ring(&ring_, &registration, 0); error != 0) {
    munmap(memory, bytes);
    throw std::runtime_error(base::system_error("registering receive buffers", -error).message);
  }
  restock();
}

ReceiveBuffers::~ReceiveBuffers() {
  io_uring_unregister_buf_ring(&ring_, kGroup);
  munmap(buffer_ring_, kRingEntries * sizeof(io_uring_buf));
  for (size_t i = 0; i < buffers_.size(); i += kBlock) munmap(buffers_[i]->data(), sizeof(Block));
}

base::Slice ReceiveBuffers::take(uint16_t buffer_id, uint32_t size) {
  assert(buffer_id < buffers_.size());
  --in_ring_;
  ++taken_;
  PooledBuffer* buffer = buffers_[buffer_id];
  return base::Slice(buffer, buffer->data(), size);
}

void ReceiveBuffers::restock() {
  most_taken_ = std::max(most_taken_, std::exchange(taken_, 0));
  if (std::exchange(ran_out_, false)) stock_ = std::min(2 * stock_, kRingEntries);
  int added = 0;
  while (in_ring_ < stock_ && (!free_.empty() || grow())) {
    PooledBuffer* buffer = buffers_[free_.back()];
    free_.pop_back();
    io_uring_buf_ring_add(buffer_ring_, buffer->data(), kBufferSize, buffer->id, io_uring_buf_ring_mask(kRingEntries),
                          added++);
    ++in_ring_;
  }
  unneeded_ = std::min(unneeded_, free_.size());
  if (added == 0) return;
  io_uring_buf_ring_advance(buffer_ring_, added);
  emptied_ = 0;
}

void ReceiveBuffers::trim() {
  stock_ = std::clamp(std::max(stock_ / 2, 2 * std::exchange(most_taken_, 0)), kLeastStock, kRingEntries);
  without_memory_ = std::min(without_memory_, unneeded_);
  const size_t n = std::min((unneeded_ - without_memory_ + 1) / 2, kTrimmedAtOnce);
  for (const size_t end = without_memory_ + n; without_memory_ < end; ++without_memory_)
    madvise(buffers_[free_[without_memory_]]->data(), kBufferSize, MADV_DONTNEED);
  unneeded_ = free_.size();
  if (in_ring_ > stock_ + emptied_) empty_the_excess();
}

// The kernel writes into buffers only while this thread is in io_uring_enter() (IORING_SETUP_DEFER_TASKRUN), and takes
// the oldest first. So the newest can be emptied as long as each that was written to has been taken.
void ReceiveBuffers::empty_the_excess() {
  if (io_uring_cq_ready(&ring_) > 0 || io_uring_cq_has_overflow(&ring_)) return;
  for (; emptied_ < in_ring_ - stock_; ++emptied_) {
    const uint32_t entry = (buffer_ring_->tail - 1 - emptied_) & (kRingEntries - 1);
    madvise(buffers_[buffer_ring_->bufs[entry].bid]->data(), kBufferSize, MADV_DONTNEED);
  }
}

void ReceiveBuffers::recycle(base::Buffer* buffer) {
  auto* pooled = static_cast<PooledBuffer*>(buffer);
  pooled->pool.free_.push_back(pooled->id);
}

bool ReceiveBuffers::can_grow() const { return buffers_.size() + kBlock <= max_buffers_; }

bool ReceiveBuffers::grow() {
  if (!can_grow()) return false;
  void* memory = mmap(nullptr, sizeof(Block), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  auto& block = *static_cast<Block*>(memory);
  free_.reserve(buffers_.size() + kBlock);
  for (uint32_t i = 0; i < kBlock; ++i) {
    const auto id = static_cast<uint16_t>(buffers_.size());
    buffers_.push_back(new (block.objects[i]) PooledBuffer(*this, id, block.bytes[i]));
    free_.push_back(id);
  }
  return true;
}

}  // namespace weir::io
