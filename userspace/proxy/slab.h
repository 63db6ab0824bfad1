// Objects that are made and returned all the time, without going to the heap for
// each: a returned object is handed out again as it is, buffers included. What a burst needed
// goes back to the heap by trim(). One thread.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

namespace weir::proxy {

// Base of what a Slab holds.
class Slabbed {
  template <class>
  friend class Slab;
  size_t slot_ = 0;  // among those in use
};

template <class T>
class Slab {
 public:
  template <class... Arguments>
  T& take(Arguments&&... arguments) {
    if (free_.empty()) free_.push_back(std::make_unique<T>(std::forward<Arguments>(arguments)...));
    used_.push_back(std::move(free_.back()));
    free_.pop_back();
    unneeded_ = std::min(unneeded_, free_.size());
    T& object = *used_.back();
    slot_of(object) = used_.size() - 1;
    return object;
  }
  void give_back(T& object) {
    const size_t slot = slot_of(object);
    free_.push_back(std::move(used_[slot]));
    if (slot + 1 != used_.size()) {
      used_[slot] = std::move(used_.back());
      slot_of(*used_[slot]) = slot;
    }
    used_.pop_back();
  }
  // Calls `function` for everything in use; it may give back what it is called for.
  template <class Function>
  void for_each(Function function) {
    for (size_t i = used_.size(); i > 0; --i)
      if (i <= used_.size()) function(*used_[i - 1]);
  }
  // Frees half of what was not needed since the last call. Returns the number of objects freed.
  size_t trim() {
    const size_t freed = (unneeded_ + 1) / 2;
    free_.resize(free_.size() - freed);
    unneeded_ = free_.size();
    return freed;
  }
  size_t in_use() const { return used_.size(); }
  size_t kept() const { return free_.size(); }

 private:
  static size_t& slot_of(Slabbed& object) { return object.slot_; }

  std::vector<std::unique_ptr<T>> used_;
  std::vector<std::unique_ptr<T>> free_;  // the last returned first
  size_t unneeded_ = 0;                   // the fewest that were free since the last trim()
};

}  // namespace weir::proxy
