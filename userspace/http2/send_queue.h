// Body bytes of one stream that wait for a window or for the connection's output to
// drain, or that are kept to be sent again. Small slices are copied together, so that a drip of
// tiny frames does not pin a whole receive buffer each; large ones are kept by reference.
#pragma once

#include <cstdint>

#include "http2/output.h"

namespace weir::http2 {

class SendQueue {
 public:
  void push(base::Slice data);
  // Moves the first `n` bytes, which must be there, into `output`.
  void move_to(Output& output, size_t n);
  // Drops the first `n` bytes, which must be there.
  void drop(size_t n);
  void clear();

  size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }
  size_t count() const { return slices_.count(); }
  const base::Slice& operator[](size_t i) const { return slices_[i]; }

 private:
  void push_copy(const base::Slice& data);

  SliceQueue slices_;
  base::Buffer* open_ = nullptr;  // of the last slice, if that is a copy that may grow
  uint32_t open_used_ = 0;
  size_t bytes_ = 0;
};

}  // namespace weir::http2
