// Buffer and Slice: bytes that several owners look at without copying. A
// Buffer is counted by a plain integer, so a Buffer and all its Slices belong
// to one thread. Whoever makes a Buffer says what happens when the last Slice
// is gone (back to a receive ring, or freed).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

namespace weir::base {

class Buffer {
 public:
  using Recycle = void (*)(Buffer*);
  Buffer(uint8_t* data, uint32_t capacity, Recycle recycle) : data_(data), capacity_(capacity), recycle_(recycle) {}

  // A heap buffer without owners yet: wrap it in a Slice at once.
  static Buffer* allocate(uint32_t capacity);

  uint8_t* data() { return data_; }
  uint32_t capacity() const { return capacity_; }

 private:
  friend class Slice;
  uint8_t* data_;
  uint32_t capacity_;
  uint32_t owners_ = 0;
  Recycle recycle_;
};

// A counted view of part of a Buffer, or (without a Buffer) of bytes that
// outlive it. Copying counts up, never copies bytes.
class Slice {
 public:
  Slice() = default;
  Slice(Buffer* buffer, const uint8_t* data, uint32_t size) : buffer_(buffer), data_(data), size_(size) {
    if (buffer_) ++buffer_->owners_;
  }
  Slice(const Slice& other) : Slice(other.buffer_, other.data_, other.size_) {}
  Slice(Slice&& other) noexcept
      : buffer_(std::exchange(other.buffer_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Slice& operator=(Slice other) noexcept {
    std::swap(buffer_, other.buffer_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Slice() {
    if (buffer_ && --buffer_->owners_ == 0) buffer_->recycle_(buffer_);
  }

  static Slice copy_of(std::span<const uint8_t> bytes);
  // Bytes that live at least as long as every Slice of them (string literals).
  static Slice borrowed(std::span<const uint8_t> bytes) {
    return Slice(nullptr, bytes.data(), static_cast<uint32_t>(bytes.size()));
  }

  const uint8_t* data() const { return data_; }
  uint32_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }

  Slice sub(uint32_t offset, uint32_t size) const { return Slice(buffer_, data_ + offset, size); }
  void remove_prefix(uint32_t n) {
    data_ += n;
    size_ -= n;
  }

 private:
  Buffer* buffer_ = nullptr;
  const uint8_t* data_ = nullptr;
  uint32_t size_ = 0;
};

}  // namespace weir::base
