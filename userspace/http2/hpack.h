// HPACK (RFC 7541) by nghttp2's coder, with its memory from the pool, and only where the
// thread's HeaderMemo does not know the answer. One call turns a whole header block into Headers or back.
//
// Representation: fields whose value is new on nearly every call (trace ids, deadlines) and
// sensitive fields are never indexed, so that they don't wash the useful entries out of the
// dynamic table. nghttp2 itself never indexes :path.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "http/headers.h"
#include "http2/frame.h"
#include "http2/header_memo.h"
#include "http2/pool.h"

namespace weir::http2 {

// Whether a field of this name has a value of its own on nearly every call.
bool varies_per_call(std::string_view name);

class HpackEncoder {
 public:
  // The dynamic table never exceeds `max_table_size`, whatever the peer allows.
  explicit HpackEncoder(uint32_t max_table_size);

  // The peer's SETTINGS_HEADER_TABLE_SIZE.
  void set_peer_table_size(uint32_t size);
  // Takes the next section, which must stay as it is until encode(), and returns the size that its block has at most.
  size_t prepare(const http::Headers& headers);
  // Encodes what was prepared into `out`, which has the size that prepare() returned. Returns the size used.
  size_t encode(uint8_t* out, size_t size);

 private:
  struct Delete {
    void operator()(nghttp2_hd_deflater* deflater) const { nghttp2_hd_deflate_del(deflater); }
  };
  std::unique_ptr<nghttp2_hd_deflater, Delete> deflater_;
  HeaderMemo& memo_;
  TableId table_ = kEmptyTable;
  uint32_t table_changes_ = 0;
  Bytes known_;  // the prepared section's block, from the memo; or empty, and then:
  pool::Vector<nghttp2_nv> fields_;
  uint64_t identity_ = 0;
};

struct HeaderListLimits {
  uint32_t max_size;  // RFC 9113 section 6.5.2: names + values + 32 a field
  uint32_t max_fields;
};

class HpackDecoder {
 public:
  enum class Outcome : uint8_t {
    ok,
    too_large,  // above the limits: the fields were dropped, but the dynamic table is in step
    broken,     // not HPACK: the connection can't go on (COMPRESSION_ERROR)
  };

  explicit HpackDecoder(uint32_t table_size);

  // The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE.
  void set_table_size(uint32_t size);
  // Decodes a whole header block into `out`.
  Outcome decode(Bytes block, const HeaderListLimits& limits, http::Headers& out);
  // What the memo has of the block that was decoded last, to look at and to add to; null: nothing. Valid until
  // something else is decoded or encoded on this thread.
  HeaderMemo::Section* section() const { return section_; }

 private:
  struct Delete {
    void operator()(nghttp2_hd_inflater* inflater) const { nghttp2_hd_inflate_del(inflater); }
  };
  std::unique_ptr<nghttp2_hd_inflater, Delete> inflater_;
  HeaderMemo& memo_;
  TableId table_ = kEmptyTable;
  uint32_t table_changes_ = 0;
  HeaderMemo::Section* section_ = nullptr;
};

}  // namespace weir::http2
