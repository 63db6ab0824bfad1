#include "http/headers.h"

#include <algorithm>

namespace weir::http {

void Headers::add(std::string_view name, std::string_view value, bool sensitive) {
  fields_.push_back(Entry{static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(name.size()),
                          static_cast<uint32_t>(value.size()), sensitive});
  // The views may point into this very arena, which append() may move.
  if (name.data() >= arena_.data() && name.data() < arena_.data() + arena_.size()) {
    std::string copy(name);
    arena_.append(copy);
  } else {
    arena_.append(name);
  }
  if (value.data() >= arena_.data() && value.data() < arena_.data() + arena_.size()) {
    std::string copy(value);
    arena_.append(copy);
  } else {
    arena_.append(value);
  }
}

void Headers::set(std::string_view name, std::string_view value) {
  for (size_t i = 0; i < fields_.size(); ++i) {
    if (view(fields_[i]).name != name) continue;
    const bool sensitive = fields_[i].sensitive;
    add(name, value, sensitive);
    fields_[i] = fields_.back();
    fields_.pop_back();
    const std::string_view kept = view(fields_[i]).name;
    const auto after = fields_.begin() + static_cast<ptrdiff_t>(i) + 1;
    fields_.erase(std::remove_if(after, fields_.end(), [&](const Entry& e) { return view(e).name == kept; }),
                  fields_.end());
    return;
  }
  add(name, value);
}

size_t Headers::remove(std::string_view name) {
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
