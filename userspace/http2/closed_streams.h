// How recently closed streams ended, which decides what a late frame on one means
// (RFC 9113 section 5.1, "closed"). A fixed table: of streams whose place was taken by a
// later one nothing is known any more.
#pragma once

#include <array>
#include <cstdint>

namespace weir::http2 {

enum class Ending : uint8_t {
  unknown,
  reset_by_us,    // the peer may not know yet: its frames are ignored
  reset_by_peer,  // a further frame is a stream error
  ended_by_peer,  // END_STREAM: a further frame is a connection error
};

class ClosedStreams {
 public:
  void remember(uint32_t id, Ending ending) { slot(id) = (id >> 1) << 2 | static_cast<uint32_t>(ending); }
  Ending ending(uint32_t id) const {
    const uint32_t entry = entries_[index(id)];
    return entry >> 2 == id >> 1 ? static_cast<Ending>(entry & 3) : Ending::unknown;
  }

 private:
  static size_t index(uint32_t id) { return (id >> 1) % 64; }
  uint32_t& slot(uint32_t id) { return entries_[index(id)]; }

  std::array<uint32_t, 64> entries_{};  // id without its parity bit (a connection opens ids of one parity), ending
};

}  // namespace weir::http2
