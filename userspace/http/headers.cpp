#include "http/headers.h"

#include <algorithm>
#include <cstring>

namespace weir::http {

void Headers::add(std::string_view name, std::string_view value, bool sensitive) {
  identity_ = 0;
  const size_t size = name.size() + value.size();
  if (arena_.capacity() - arena_.size() < size) {
    // The views may point into the arena that grows now.
    std::string grown;
    grown.reserve(std::max(2 * arena_.capacity(), arena_.size() + size));
    grown.append(arena_);
    fields_.push_back(Entry{static_cast<uint32_t>(grown.size()), static_cast<uint32_t>(name.size()),
                            static_cast<uint32_t>(value.size()), sensitive});
    grown.append(name).append(value);
    arena_.swap(grown);
    return;
  }
  fields_.push_back(Entry{static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(name.size()),
                          static_cast<uint32_t>(value.size()), sensitive});
  arena_.append(name).append(value);
}

void Headers::set(std::string_view name, std::string_view value) {
  identity_ = 0;
  for (size_t i = 0; i < fields_.size(); ++i) {
    if (view(fields_[i]).name != name) continue;
    if (Entry& e = fields_[i]; value.size() <= e.value_size) {
      // In place, so that a field set again and again takes no more memory.
      std::memmove(arena_.data() + e.offset + e.name_size, value.data(), value.size());
      e.value_size = static_cast<uint32_t>(value.size());
    } else {
      add(name, value, e.sensitive);
      fields_[i] = fields_.back();
      fields_.pop_back();
    }
    const std::string_view kept = view(fields_[i]).name;
    const auto after = fields_.begin() + static_cast<ptrdiff_t>(i) + 1;
    fields_.erase(std::remove_if(after, fields_.end(), [&](const Entry& e) { return view(e).name == kept; }),
                  fields_.end());
    return;
  }
  add(name, value);
}

size_t Headers::remove(std::string_view name) {
  identity_ = 0;
  const auto gone =
      std::remove_if(fields_.begin(), fields_.end(), [&](const Entry& e) { return view(e).name == name; });
  const auto count = static_cast<size_t>(fields_.end() - gone);
  fields_.erase(gone, fields_.end());
  return count;
}

std::optional<std::string_view> Headers::find(std::string_view name) const {
  for (const Entry& e : fields_) {
    const Field field = view(e);
    if (field.name == name) return field.value;
  }
  return std::nullopt;
}

}  // namespace weir::http
