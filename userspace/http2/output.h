// Bytes framed but not yet written. Frame headers, header blocks and small payloads
// are written into pooled chunks, larger payloads are referenced by Slice. Nothing
// moves or is freed between gather() and written(), whatever is appended meanwhile.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "http2/slice_queue.h"

namespace weir::http2 {

class Output {
 public:
  static constexpr size_t kChunkCapacity = pool::kLargestBlock - sizeof(base::Buffer);
  // Up to this size, copying a payload beside its frame header is cheaper than an iovec entry and a
  // counted reference, and frees the receive buffer at once (measured: see http2_bench).
  static constexpr size_t kCopyLimit = 2048;

  // `n` contiguous writable bytes, n <= kChunkCapacity; commit() what of them is used before anything else.
  uint8_t* reserve(size_t n);
  void commit(size_t n) {
    used_ += n;
    appended_ += n;
  }
  // Copies `slice` or references it, whichever is cheaper.
  void append(base::Slice slice);
  void reference(base::Slice slice);

  // Bytes not written yet.
  size_t size() const { return appended_ - written_; }
  bool empty() const { return size() == 0; }
  // All bytes ever appended: the position of the next one.
  uint64_t appended() const { return appended_; }
  // The position up to which gather() has handed bytes out: those may have left.
  uint64_t exposed() const { return exposed_; }

  size_t gather(std::span<iovec> out);
  void written(size_t n);

 private:
  void seal();

  SliceQueue queue_;
  base::Slice chunk_;               // keeps the open chunk alive
  base::Buffer* buffer_ = nullptr;  // of chunk_
  size_t sealed_ = 0;               // bytes of the open chunk that are in queue_ already
  size_t used_ = 0;                 // bytes of the open chunk that are written to
  uint64_t appended_ = 0;
  uint64_t written_ = 0;
  uint64_t exposed_ = 0;
};

}  // namespace weir::http2
