// Streams by id: open addressing over the ids' order of use. Ids grow by two, so streams
// that live at the same time have neighbouring slots and a look-up is one probe unless
// long-lived streams lie in the way. Robin Hood order (whoever is farther from its place
// goes first) lets an erase stop at the first stream that is in its place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "http2/pool.h"

namespace weir::http2 {

class Stream;

class StreamTable {
 public:
  Stream* find(uint32_t id) const {
    if (slots_.empty()) return nullptr;
    for (size_t i = home(id), steps = 0;; i = next(i), ++steps) {
      const Slot& slot = slots_[i];
      if (slot.id == id) return slot.stream;
      if (slot.id == 0 || distance(i) < steps) return nullptr;
    }
  }
  // `id` is not 0 and not in the table.
  void insert(uint32_t id, Stream* stream);
  void erase(uint32_t id);
  size_t size() const { return count_; }

 private:
  struct Slot {
    uint32_t id = 0;  // 0: free
    Stream* stream = nullptr;
  };
  size_t home(uint32_t id) const { return (id >> 1) & (slots_.size() - 1); }
  // From the place where the stream in slot `i` would like to be.
  size_t distance(size_t i) const { return (i - home(slots_[i].id)) & (slots_.size() - 1); }
  size_t next(size_t i) const { return (i + 1) & (slots_.size() - 1); }
  void place(Slot slot);
  void grow();

  pool::Vector<Slot> slots_;  // a power of two of them, at most half full
  size_t count_ = 0;
};

}  // namespace weir::http2
