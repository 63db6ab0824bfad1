#include "http2/stream_table.h"

#include <utility>

namespace weir::http2 {

void StreamTable::insert(uint32_t id, Stream* stream) {
  if ((count_ + 1) * 2 > slots_.size()) grow();
  size_t i = home(id);
  while (slots_[i].id != 0) i = next(i);
  slots_[i] = Slot{id, stream};
  ++count_;
}

void StreamTable::erase(uint32_t id) {
  if (slots_.empty()) return;
  size_t hole = home(id);
  while (slots_[hole].id != id) {
    if (slots_[hole].id == 0) return;
    hole = next(hole);
  }
  --count_;
  // Moves back whatever a probe would no longer reach past the hole.
  for (size_t i = next(hole); slots_[i].id != 0; i = next(i)) {
    const size_t mask = slots_.size() - 1;
    const size_t distance = (i - home(slots_[i].id)) & mask;
    if (distance < ((i - hole) & mask)) continue;
    slots_[hole] = slots_[i];
    hole = i;
  }
  slots_[hole] = Slot();
}

void StreamTable::grow() {
  pool::Vector<Slot> old(slots_.empty() ? 8 : slots_.size() * 2);
  std::swap(old, slots_);
  for (const Slot& slot : old) {
    if (slot.id == 0) continue;
    size_t i = home(slot.id);
    while (slots_[i].id != 0) i = next(i);
    slots_[i] = slot;
  }
}

}  // namespace weir::http2
