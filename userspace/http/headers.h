// Headers: an ordered list of header (or trailer) fields, pseudo-header fields
// included and first, names in lower case (RFC 9113 section 8.2). It owns its
// bytes in one arena; clear() keeps the memory, so a reused list allocates
// nothing once it has grown to the size of the traffic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir::http {

struct Field {
  std::string_view name;
  std::string_view value;
  bool sensitive = false;  // never indexed by HPACK (RFC 7541 section 7.1.3)
};

class Headers {
 public:
  class Iterator;

  void clear() {
    identity_ = 0;
    arena_.clear();
    fields_.clear();
  }
  void add(std::string_view name, std::string_view value, bool sensitive = false);
  // Replaces the first field of that name and removes the others, or adds one.
  void set(std::string_view name, std::string_view value);
  // Returns how many fields went.
  size_t remove(std::string_view name);

  size_t size() const { return fields_.size(); }
  bool empty() const { return fields_.empty(); }
  // Lists with the same identity have the same fields; 0: nothing is known. Copies keep it, a change clears it.
  uint64_t identity() const { return identity_; }
  void set_identity(uint64_t identity) { identity_ = identity; }
  // Memory in use for names and values, those of removed fields included.
  size_t bytes() const { return arena_.size(); }
  // Views stay valid until the list is changed.
  Field operator[](size_t i) const { return view(fields_[i]); }
  // The first field of that name. `name` must be in lower case.
  std::optional<std::string_view> find(std::string_view name) const;
  // find(), or "" where there is none.
  std::string_view get(std::string_view name) const { return find(name).value_or(std::string_view()); }

  Iterator begin() const;
  Iterator end() const;

 private:
  struct Entry {
    uint32_t offset;  // of the name in the arena; the value follows it
    uint32_t name_size;
    uint32_t value_size;
    bool sensitive;
  };
  Field view(const Entry& e) const {
    const char* name = arena_.data() + e.offset;
    return Field{{name, e.name_size}, {name + e.name_size, e.value_size}, e.sensitive};
  }

  std::string arena_;
  std::vector<Entry> fields_;
  uint64_t identity_ = 0;
};

class Headers::Iterator {
 public:
  Iterator(const Headers* headers, size_t at) : headers_(headers), at_(at) {}
  Field operator*() const { return (*headers_)[at_]; }
  Iterator& operator++() {
    ++at_;
    return *this;
  }
  bool operator==(const Iterator& other) const { return at_ == other.at_; }

 private:
  const Headers* headers_;
  size_t at_;
};

inline Headers::Iterator Headers::begin() const { return {this, 0}; }
inline Headers::Iterator Headers::end() const { return {this, fields_.size()}; }

}  // namespace weir::http
