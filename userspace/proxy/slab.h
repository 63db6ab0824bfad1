// Objects that are made and returned all the time, without going to the heap for
// each: a returned object is handed out again as it is, buffers included. One thread.
#pragma once

#include <memory>
#include <vector>

namespace weir::proxy {

template <class T>
class Slab {
 public:
  template <class... Arguments>
  T& take(Arguments&&... arguments) {
    if (free_.empty()) {
      all_.push_back(std::make_unique<T>(std::forward<Arguments>(arguments)...));
      free_.reserve(all_.size());
      return *all_.back();
    }
    T& object = *free_.back();
    free_.pop_back();
    return object;
  }
  void give_back(T& object) { free_.push_back(&object); }
  // Everything ever made, whether in use or not.
  template <class Function>
  void for_each(Function function) {
    for (const auto& object : all_) function(*object);
  }
  size_t in_use() const { return all_.size() - free_.size(); }

 private:
  std::vector<std::unique_ptr<T>> all_;
  std::vector<T*> free_;
};

}  // namespace weir::proxy
