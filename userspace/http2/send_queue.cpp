#include "http2/send_queue.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace weir::http2 {

namespace {
constexpr size_t kSmallestCopy = 512;
// A slice that waits pins its receive buffer (16 KiB): never more than four times what it holds itself.
constexpr size_t kCopiedWhileWaiting = 4096;
}  // namespace

void SendQueue::push(base::Slice data) {
  if (data.empty()) return;
  bytes_ += data.size();
  if (data.size() <= kCopiedWhileWaiting) return push_copy(data);
  open_ = nullptr;
  slices_.push(std::move(data));
}

void SendQueue::push_copy(const base::Slice& data) {
  if (open_ && open_->capacity() - open_used_ >= data.size()) {
    const base::Slice& last = slices_.back();
    std::memcpy(open_->data() + open_used_, data.data(), data.size());
    slices_.back() = base::Slice(open_, last.data(), last.size() + data.size());
  } else {
    // Each copy buffer is twice the one before: a single tiny message stays cheap, a long drip becomes few buffers.
    const size_t needed = std::max(data.size() + sizeof(base::Buffer), kSmallestCopy);
    const size_t doubled = open_ ? 2 * (open_->capacity() + sizeof(base::Buffer)) : 0;
    open_ = pool::take_buffer(std::min(std::bit_ceil(std::max(needed, doubled)), pool::kLargestBlock));
    open_used_ = 0;
    std::memcpy(open_->data(), data.data(), data.size());
    slices_.push(base::Slice(open_, open_->data(), data.size()));
  }
  open_used_ += data.size();
}

void SendQueue::move_to(Output& output, size_t n) {
  bytes_ -= n;
  while (n > 0) {
    base::Slice& slice = slices_.front();
    const auto part = static_cast<uint32_t>(std::min<size_t>(n, slice.size()));
    n -= part;
    if (part == slice.size()) {
      output.append(std::move(slice));
      slices_.pop();
    } else {
      output.append(slice.sub(0, part));
      slice.remove_prefix(part);
    }
  }
  if (slices_.empty()) open_ = nullptr;
}

void SendQueue::drop(size_t n) {
  bytes_ -= n;
  while (n > 0) {
    base::Slice& slice = slices_.front();
    const auto part = static_cast<uint32_t>(std::min<size_t>(n, slice.size()));
    n -= part;
    if (part == slice.size())
      slices_.pop();
    else
      slice.remove_prefix(part);
  }
  if (slices_.empty()) open_ = nullptr;
}

void SendQueue::clear() {
  slices_.clear();
  open_ = nullptr;
  bytes_ = 0;
}

}  // namespace weir::http2
