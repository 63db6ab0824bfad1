#include "http2/hpack.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace weir::http2 {
namespace {

// nghttp2 frees without telling the size, so each block begins with it.
struct alignas(16) BlockSize {
  size_t size;
};

void* hpack_malloc(size_t size, void*) {
  const size_t whole = size + sizeof(BlockSize);
  return new (pool::take(whole)) BlockSize{whole} + 1;
}

void hpack_free(void* memory, void*) {
  if (!memory) return;
  BlockSize* block = static_cast<BlockSize*>(memory) - 1;
  pool::give(block, block->size);
}

void* hpack_calloc(size_t count, size_t size, void*) {
  void* memory = hpack_malloc(count * size, nullptr);
  std::memset(memory, 0, count * size);
  return memory;
}

void* hpack_realloc(void* memory, size_t size, void*) {
  void* grown = hpack_malloc(size, nullptr);
  if (memory) {
    const size_t old = (static_cast<BlockSize*>(memory) - 1)->size - sizeof(BlockSize);
    std::memcpy(grown, memory, std::min(old, size));
    hpack_free(memory, nullptr);
  }
  return grown;
}

nghttp2_mem* pooled_memory() {
  static nghttp2_mem memory{nullptr, hpack_malloc, hpack_free, hpack_calloc, hpack_realloc};
  return &memory;
}

// nghttp2 takes pointers to mutable bytes but does not write to them.
uint8_t* unconst(std::string_view text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); }

std::string_view view(const uint8_t* data, size_t size) { return {reinterpret_cast<const char*>(data), size}; }

}  // namespace

bool varies_per_call(std::string_view name) {
  switch (name.size()) {
    case 2:
      return name == "b3";
    case 10:
      return name == "tracestate";
    case 11:
      return name == "traceparent" || name == "x-b3-spanid";
    case 12:
      return name == "grpc-timeout" || name == "x-request-id" || name == "x-b3-traceid" || name == "grpc-message";
    case 14:
      return name == "grpc-trace-bin";
    case 15:
      return name == "x-amzn-trace-id";
    case 17:
      return name == "x-b3-parentspanid";
    case 21:
      return name == "x-cloud-trace-context";
    default:
      return false;
  }
}

HpackEncoder::HpackEncoder(uint32_t max_table_size) : memo_(HeaderMemo::of_this_thread()) {
  if (max_table_size != kDefaultTableSize) table_ = memo_.unique_table();
  nghttp2_hd_deflater* deflater = nullptr;
  if (nghttp2_hd_deflate_new2(&deflater, max_table_size, pooled_memory()) != 0) throw std::bad_alloc();
  deflater_.reset(deflater);
}

void HpackEncoder::set_peer_table_size(uint32_t size) {
  if (nghttp2_hd_deflate_change_table_size(deflater_.get(), size) != 0) throw std::bad_alloc();
  table_ = memo_.unique_table();  // the next block has to tell the peer
}

size_t HpackEncoder::prepare(const http::Headers& headers) {
  known_ = memo_.encoded(table_, headers.identity());
  if (!known_.empty()) return known_.size();
  identity_ = headers.identity();
  fields_.clear();
  for (const http::Field field : headers) {
    const bool never_indexed = field.sensitive || varies_per_call(field.name);
    fields_.push_back(
        nghttp2_nv{unconst(field.name), unconst(field.value), field.name.size(), field.value.size(),
                   static_cast<uint8_t>(never_indexed ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE)});
  }
  return nghttp2_hd_deflate_bound(deflater_.get(), fields_.data(), fields_.size());
}

size_t HpackEncoder::encode(uint8_t* out, size_t size) {
  if (!known_.empty()) {
    std::memcpy(out, known_.data(), known_.size());
    return known_.size();
  }
  const ssize_t used = nghttp2_hd_deflate_hd(deflater_.get(), out, size, fields_.data(), fields_.size());
  // With the room that prepare() asked for, it fails only for lack of memory.
  if (used < 0) throw std::bad_alloc();
  table_ = memo_.learn_encoded(table_, identity_, {out, static_cast<size_t>(used)}, table_changes_);
  return static_cast<size_t>(used);
}

HpackDecoder::HpackDecoder(uint32_t table_size) : memo_(HeaderMemo::of_this_thread()) {
  nghttp2_hd_inflater* inflater = nullptr;
  if (nghttp2_hd_inflate_new2(&inflater, pooled_memory()) != 0) throw std::bad_alloc();
  inflater_.reset(inflater);
  // A larger table may be in use as soon as the peer has read our SETTINGS, a smaller one only after its ACK.
  if (table_size > kDefaultTableSize) set_table_size(table_size);
}

void HpackDecoder::set_table_size(uint32_t size) {
  if (nghttp2_hd_inflate_change_table_size(inflater_.get(), size) != 0) throw std::bad_alloc();
  table_ = memo_.unique_table();
}

HpackDecoder::Outcome HpackDecoder::decode(Bytes block, const HeaderListLimits& limits, http::Headers& out) {
  out.clear();
  section_ = memo_.decoded(table_, block);
  if (section_ && section_->size <= limits.max_size && section_->headers.size() <= limits.max_fields) {
    out = section_->headers;
    return Outcome::ok;
  }
  section_ = nullptr;
  uint64_t size = 0;
  uint32_t count = 0;
  bool fits = true;
  const uint8_t* at = block.data();
  size_t left = block.size();
  for (;;) {
    nghttp2_nv field;
    int flags = NGHTTP2_HD_INFLATE_NONE;
    const ssize_t used = nghttp2_hd_inflate_hd2(inflater_.get(), &field, &flags, at, left, 1);
    if (used < 0) return Outcome::broken;
    at += used;
    left -= static_cast<size_t>(used);
    if (flags & NGHTTP2_HD_INFLATE_EMIT) {
      size += field.namelen + field.valuelen + 32;
      fits = fits && size <= limits.max_size && ++count <= limits.max_fields;
      if (fits) {
        out.add(view(field.name, field.namelen), view(field.value, field.valuelen),
                (field.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
      }
    }
    if (flags & NGHTTP2_HD_INFLATE_FINAL) break;
    if (used == 0 && !(flags & NGHTTP2_HD_INFLATE_EMIT)) return Outcome::broken;
  }
  nghttp2_hd_inflate_end_headers(inflater_.get());
  table_ = fits ? memo_.learn_decoded(table_, block, out, table_changes_) : memo_.unique_table();
  return fits ? Outcome::ok : Outcome::too_large;
}

}  // namespace weir::http2
