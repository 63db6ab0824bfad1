#include "http2/stream_table.h"

#include <utility>

namespace weir::http2 {

void StreamTable::insert(uint32_t id, Stream* stream) {
  if ((count_ + 1) * 2 > slots_.size()) grow();
  place(Slot{id, stream});
  ++count_;
}

void StreamTable::place(Slot slot) {
  size_t i = home(slot.id);
  for (size_t steps = 0; slots_[i].id != 0; i = next(i), ++steps) {
    if (const size_t here = distance(i); here < steps) {
      std::swap(slot, slots_[i]);
      steps = here;
    }
  }
  slots_[i] = slot;
}

void StreamTable::erase(uint32_t id) {
  if (slots_.empty()) return;
  size_t hole = home(id);
  while (slots_[hole].id != id) {
    if (slots_[hole].id == 0) return;
    hole = next(hole);
  }
  --count_;
  for (size_t i = next(hole); slots_[i].id != 0 && distance(i) != 0; i = next(i)) {
    slots_[hole] = slots_[i];
    hole = i;
  }
  slots_[hole] = Slot();
}

void StreamTable::grow() {
  pool::Vector<Slot> old(slots_.empty() ? 8 : slots_.size() * 2);
  std::swap(old, slots_);
  for (const Slot& slot : old) {
    if (slot.id != 0) place(slot);
  }
}

}  // namespace weir::http2
