// The agent's duties on a connection whose bytes go past TCP, where the kernel makes
// nobody wait: to tell what it has read, and to bound what the application has not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "http2/connection.h"
#include "http2/unread_bound.h"

namespace weir::proxy {

// Told how many bytes of a connection have been read since it began.
using ReportRead = std::function<void(uint64_t bytes)>;

// A report is due after so many bytes.
inline constexpr uint64_t kReadReport = 32 * 1024;

class Redirected {
 public:
  Redirected(http2::Connection& connection, ReportRead report) : connection_(connection), report_(std::move(report)) {}

  void received(size_t bytes) {
    read_ += bytes;
    if (read_ - reported_ < kReadReport) return;
    reported_ = read_;
    report_(read_);
  }
  // Before a write; false: not before the probe returns.
  bool may_send();
  void sent(size_t bytes) { unread_.sent(bytes); }
  void probe_returned() { unread_.proven(); }

 private:
  http2::Connection& connection_;
  ReportRead report_;
  uint64_t read_ = 0, reported_ = 0;
  http2::UnreadBound unread_;
};

}  // namespace weir::proxy
