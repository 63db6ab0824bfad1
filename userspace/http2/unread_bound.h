// UnreadBound bounds what a peer has been sent and has not read, where the transport
// exerts no backpressure. The proof of reading is the ACK of a PING (RFC 9113 section
// 6.7) that was sent behind the bytes: one probe at a time, after each kProbeEvery.
#pragma once

#include <cstddef>
#include <cstdint>

namespace weir::http2 {

class UnreadBound {
 public:
  // Of what the bytes cost: each write has a price of its own in the kernel.
  static constexpr uint64_t kProbeEvery = 1 << 20;
  static constexpr uint64_t kMost = 4 << 20;
  static constexpr uint64_t kWriteCost = 1024;

  // One write of `bytes` has left.
  void sent(size_t bytes) {
    bytes_ += bytes;
    cost_ += bytes + kWriteCost;
  }
  bool probe_due() const { return !probing_ && cost_ - proven_ >= kProbeEvery; }
  // A probe is framed: it has left when `ahead` more bytes have, itself included.
  void probed(size_t ahead) {
    probing_ = true;
    probe_end_ = bytes_ + ahead;
    probe_cost_ = cost_;
  }
  // The probe's ACK has come.
  void proven() {
    probing_ = false;
    proven_ = probe_cost_;
  }
  // Nothing more may be sent until the ACK comes. Never while the probe itself waits to be sent.
  bool exhausted() const { return probing_ && bytes_ >= probe_end_ && cost_ - proven_ >= kMost; }

 private:
  uint64_t bytes_ = 0, cost_ = 0;            // sent
  uint64_t probe_end_ = 0, probe_cost_ = 0;  // of the last probe: in bytes_ where it ends, cost_ when it was framed
  uint64_t proven_ = 0;                      // of cost_
  bool probing_ = false;
};

}  // namespace weir::http2
