// A first-in first-out queue of Slices that keeps its memory when it runs empty.
#pragma once

#include <cstddef>

#include "base/buffer.h"
#include "http2/pool.h"

namespace weir::http2 {

class SliceQueue {
 public:
  bool empty() const { return head_ == slices_.size(); }
  size_t count() const { return slices_.size() - head_; }
  base::Slice& front() { return slices_[head_]; }
  base::Slice& back() { return slices_.back(); }
  const base::Slice& operator[](size_t i) const { return slices_[head_ + i]; }

  void push(base::Slice slice) { slices_.push_back(std::move(slice)); }
  void pop() {
    slices_[head_++] = base::Slice();
    if (head_ == slices_.size()) {
      slices_.clear();
      head_ = 0;
    } else if (head_ >= 32 && head_ * 2 >= slices_.size()) {
      slices_.erase(slices_.begin(), slices_.begin() + static_cast<ptrdiff_t>(head_));
      head_ = 0;
    }
  }
  // Also gives memory back that only a burst needed.
  void clear() {
    slices_.clear();
    head_ = 0;
    if (slices_.capacity() > 64) slices_ = {};
  }

 private:
  pool::Vector<base::Slice> slices_;
  size_t head_ = 0;
};

}  // namespace weir::http2
