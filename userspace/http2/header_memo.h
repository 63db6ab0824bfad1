// HeaderMemo: what header blocks mean, remembered. In steady state the peers of a
// connection say the same few bytes again and again, against a dynamic table that no longer changes;
// then a block need be decoded, checked and encoded only once.
//
// A block that leaves the dynamic table as it is means the same whenever it meets the same table. So
// every state of a table has an id, and the memo maps (table id, block) to the section, and
// (section, table id) to the block that encodes it. Blocks that change the table always go through nghttp2, which
// has to follow; they lead to a state with another id. Blocks with never-indexed fields (RFC 7541 section 7.1.3) are
// not remembered at all.
//
// One per thread, bounded, shared by its connections; what is new displaces what was not used for longest in its set.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "http/headers.h"
#include "http2/frame.h"
#include "http2/header_rules.h"

namespace weir::http2 {

// The state of a dynamic table: equal ids, equal tables.
using TableId = uint64_t;
inline constexpr TableId kEmptyTable = 0;

class HeaderMemo {
 public:
  // A block above this size is not worth remembering: most of it is literals, which vary.
  static constexpr size_t kMostBytes = 256;

  // A decoded section and what was found out about it. `headers` carries an identity.
  struct Section {
    http::Headers headers;
    uint64_t size = 0;                     // RFC 9113 section 6.5.2: names + values + 32 a field
    std::optional<RequestHead> request;    // it is a well-formed request's
    std::optional<ResponseHead> response;  // ... response's
    bool trailers = false;                 // ... trailer section
  };

  static HeaderMemo& of_this_thread();
  HeaderMemo();

  // Null: not known. The section is valid until the memo is used again.
  Section* decoded(TableId table, Bytes block);
  // `block`, valid and met with `table`, was decoded to `headers`. Returns the table's id after it. The
  // first meeting is only noted, since most blocks with values of their own never come again. `changes` counts
  // the changes of this table.
  TableId learn_decoded(TableId table, Bytes block, const http::Headers& headers, uint32_t& changes);

  // Empty: not known. Valid until the memo is used again.
  Bytes encoded(TableId table, uint64_t identity) const;
  // The counterpart: a section of that identity (0: it has none) was encoded as `block`.
  TableId learn_encoded(TableId table, uint64_t identity, Bytes block, uint32_t& changes);

  // A state that no other table has.
  TableId unique_table() { return ++last_id_; }

 private:
  static constexpr size_t kSets = 1024;

  // Two entries a set, the one used last first.
  template <class Entry>
  class Table {
   public:
    template <class Match>
    Entry* find(uint64_t hash, Match match) {
      auto& [first, second] = sets_[hash % kSets];
      if (first.hash == hash && match(first)) return &first;
      if (second.hash != hash || !match(second)) return nullptr;
      std::swap(first, second);
      return &first;
    }
    // The entry to be written over.
    Entry& displace(uint64_t hash) {
      auto& [first, second] = sets_[hash % kSets];
      std::swap(first, second);
      first.hash = hash;
      return first;
    }

   private:
    std::vector<std::array<Entry, 2>> sets_{kSets};
  };

  struct Decoded {
    uint64_t hash = 0;
    TableId table = 0;
    std::vector<uint8_t> block;
    std::shared_ptr<Section> section;
  };
  struct Encoded {
    uint64_t hash = 0;
    TableId table = 0;
    uint64_t identity = 0;
    std::vector<uint8_t> block;
  };
  // Tables that went the same way are in the same state: connections of one kind of client share their blocks.
  struct Change {
    uint64_t hash = 0;
    TableId before = 0, after = 0;
    std::vector<uint8_t> block;
  };
  struct Content {
    uint64_t hash = 0;
    std::shared_ptr<Section> section;
  };

  uint64_t hash_of(TableId table, Bytes block) const;
  std::shared_ptr<Section> section_of(const http::Headers& headers);
  TableId after(TableId table, Bytes block, uint32_t& changes);

  uint64_t seed_;
  uint64_t last_id_ = 0;
  Table<Decoded> decoded_;
  mutable Table<Encoded> encoded_;
  Table<Change> changes_;
  Table<Content> contents_;
  std::array<uint32_t, kSets> met_{};  // hashes of blocks that were met once
};

}  // namespace weir::http2
