// FlatTable: an open-addressing map of small trivially copyable keys and
// values. It is looked into for every RPC: one hash, one probe, no allocation
// until it grows, and clear() costs nothing. One thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace weir::telemetry {

// A mixer of 64 bits to 64 bits whose low bits depend on all of the input.
inline uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ull;
  x ^= x >> 32;
  return x;
}

// Key has operator== and a hash() member.
template <class Key, class Value>
class FlatTable {
  static_assert(std::is_trivially_copyable_v<Key> && std::is_trivially_copyable_v<Value>);

 public:
  FlatTable() : slots_(64) {}

  // Valid until the next insert() or clear(); null if there is none.
  const Value* find(const Key& key) const {
    for (size_t i = key.hash() & mask(); slots_[i].epoch == epoch_; i = (i + 1) & mask()) {
      if (slots_[i].key == key) return &slots_[i].value;
    }
    return nullptr;
  }
  // The key must not be there yet.
  void insert(const Key& key, const Value& value) {
    if ((size_ + 1) * 2 > slots_.size()) grow();
    place(key, value);
    ++size_;
  }
  // Keeps the memory.
  void clear() {
    ++epoch_;
    size_ = 0;
  }
  size_t size() const { return size_; }

 private:
  struct Slot {
    Key key{};
    Value value{};
    uint64_t epoch = 0;  // taken if it is the table's
  };
  size_t mask() const { return slots_.size() - 1; }
  void place(const Key& key, const Value& value) {
    size_t i = key.hash() & mask();
    while (slots_[i].epoch == epoch_) i = (i + 1) & mask();
    slots_[i] = {key, value, epoch_};
  }
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.epoch == epoch_) place(slot.key, slot.value);
    }
  }

  std::vector<Slot> slots_;  // a power of two
  uint64_t epoch_ = 1;
  size_t size_ = 0;
};

}  // namespace weir::telemetry
