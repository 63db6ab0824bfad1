// Flow-control windows (RFC 9113 sections 5.2 and 6.9): how many bytes of DATA
// may still be sent or received. Plain arithmetic; who asks, and when, is elsewhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "http2/frame.h"

namespace weir::http2 {

// What we grant the peer on a stream or on the connection.
//   left (the peer may send) + held (delivered to the user) + returned (to be announced) = size
// What is lent besides has been delivered and returned before it was consumed.
class ReceiveWindow {
 public:
  // `size` is what we want to keep granted, `granted` what the peer believes it has now.
  ReceiveWindow(uint32_t size, uint32_t granted) : size_(size), left_(granted) {}

  // False: the peer sent more than it may.
  bool receive(uint32_t bytes) {
    if (int64_t{bytes} > left_) return false;
    left_ -= bytes;
    held_ += bytes;
    return true;
  }
  // Never more than is held or lent, whatever the caller says. Returns how many counted.
  uint32_t consume(uint64_t bytes) {
    const uint64_t repaid = std::min(bytes, lent_);
    lent_ -= repaid;
    const auto n = static_cast<uint32_t>(std::min<uint64_t>(bytes - repaid, held_));
    held_ -= n;
    returned_ += n;
    return n + static_cast<uint32_t>(repaid);
  }
  // What is held is returned as if it were consumed, and consuming it returns nothing then.
  void lend() {
    lent_ += held_;
    returned_ += std::exchange(held_, 0);
  }
  // At half a window, so that a WINDOW_UPDATE is rare but never late.
  bool update_due() const { return returned_ > 0 && returned_ >= size_ / 2; }
  // The increment to announce.
  uint32_t take_update() {
    const uint32_t increment = returned_;
    left_ += increment;
    returned_ = 0;
    return increment;
  }
  // The peer has learned of a window smaller than the one it started with (6.9.2).
  void shrink(uint32_t bytes) { left_ -= bytes; }
  uint32_t held() const { return held_; }

 private:
  uint32_t size_;
  int64_t left_;  // negative after shrink()
  uint32_t held_ = 0;
  uint32_t returned_ = 0;
  uint64_t lent_ = 0;
};

// What the peer grants us on the connection.
class SendWindow {
 public:
  int64_t left() const { return left_; }
  void use(uint32_t bytes) { left_ -= bytes; }
  // False: the sum is above 2^31-1.
  bool add(uint32_t increment) {
    left_ += increment;
    return left_ <= int64_t{kMaxWindow};
  }

 private:
  int64_t left_ = kDefaultWindow;
};

// What the peer grants us on a stream, as the distance from its SETTINGS_INITIAL_WINDOW_SIZE:
// a change of that setting moves the windows of all streams (6.9.2) without touching any.
class StreamSendWindow {
 public:
  int64_t left(uint32_t initial) const { return initial + credit_; }
  void use(uint32_t bytes) { credit_ -= bytes; }
  bool add(uint32_t increment, uint32_t initial) {
    credit_ += increment;
    return left(initial) <= int64_t{kMaxWindow};
  }
  int64_t credit() const { return credit_; }

 private:
  int64_t credit_ = 0;
};

}  // namespace weir::http2
