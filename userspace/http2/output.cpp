#include "http2/output.h"

#include <algorithm>
#include <cstring>

namespace weir::http2 {

uint8_t* Output::reserve(size_t n) {
  if (!buffer_ || kChunkCapacity - used_ < n) {
    seal();
    buffer_ = pool::take_buffer(pool::kLargestBlock);
    chunk_ = base::Slice(buffer_, buffer_->data(), 0);
    sealed_ = used_ = 0;
  }
  return buffer_->data() + used_;
}

void Output::append(base::Slice slice) {
  const size_t n = slice.size();
  if (n == 0) return;
  if (n <= kCopyLimit) {
    std::memcpy(reserve(n), slice.data(), n);
    commit(n);
    return;
  }
  reference(std::move(slice));
}

void Output::reference(base::Slice slice) {
  seal();
  appended_ += slice.size();
  queue_.push(std::move(slice));
}

void Output::seal() {
  if (used_ == sealed_) return;
  queue_.push(base::Slice(buffer_, buffer_->data() + sealed_, static_cast<uint32_t>(used_ - sealed_)));
  sealed_ = used_;
}

size_t Output::gather(std::span<iovec> out) {
  seal();
  const size_t n = std::min(out.size(), queue_.count());
  uint64_t bytes = 0;
  for (size_t i = 0; i < n; ++i) {
    const base::Slice& slice = queue_[i];
    out[i] = iovec{const_cast<uint8_t*>(slice.data()), slice.size()};
    bytes += slice.size();
  }
  exposed_ = std::max(exposed_, written_ + bytes);
  return n;
}

void Output::written(size_t n) {
  written_ += n;
  while (n > 0 && !queue_.empty()) {
    base::Slice& slice = queue_.front();
    if (slice.size() > n) {
      slice.remove_prefix(static_cast<uint32_t>(n));
      return;
    }
    n -= slice.size();
    queue_.pop();
  }
  if (empty()) {
    // An idle connection holds no chunk.
    chunk_ = base::Slice();
    buffer_ = nullptr;
    sealed_ = used_ = 0;
  }
}

}  // namespace weir::http2
