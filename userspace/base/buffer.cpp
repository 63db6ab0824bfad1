#include "base/buffer.h"

#include <cstdlib>
#include <new>

namespace weir::base {

Buffer* Buffer::allocate(uint32_t capacity) {
  void* memory = std::malloc(sizeof(Buffer) + capacity);
  if (!memory) throw std::bad_alloc();
  auto* bytes = static_cast<uint8_t*>(memory) + sizeof(Buffer);
  return new (memory) Buffer(bytes, capacity, [](Buffer* buffer) { std::free(buffer); });
}

Slice Slice::copy_of(std::span<const uint8_t> bytes) {
  Buffer* buffer = Buffer::allocate(static_cast<uint32_t>(bytes.size()));
  if (!bytes.empty()) std::memcpy(buffer->data(), bytes.data(), bytes.size());
  return Slice(buffer, buffer->data(), static_cast<uint32_t>(bytes.size()));
}

}  // namespace weir::base
