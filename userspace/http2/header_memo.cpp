#include "http2/header_memo.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

namespace weir::http2 {
namespace {

// Beyond so many changes a table's way is its own: a peer that indexes what varies would only wash out the memo.
constexpr uint32_t kSharedChanges = 32;

enum class Effect : uint8_t {
  none,
  keeps_secrets,  // has never-indexed fields
  changes_table,
};

// Skips an integer with a prefix of `bits` bits (RFC 7541 section 5.1) and returns it.
size_t skip_integer(Bytes block, size_t& at, int bits) {
  const size_t most = (size_t{1} << bits) - 1;
  size_t value = block[at++] & most;
  if (value < most) return value;
  for (int shift = 0; at < block.size() && shift < 28; shift += 7) {
    const uint8_t byte = block[at++];
    value += static_cast<size_t>(byte & 0x7f) << shift;
    if (!(byte & 0x80)) break;
  }
  return value;
}

void skip_string(Bytes block, size_t& at) {
  if (at >= block.size()) return;
  const size_t size = skip_integer(block, at, 7);
  at += size;
}

// By the representations of a valid block (RFC 7541 section 6).
Effect effect_of(Bytes block) {
  Effect effect = Effect::none;
  for (size_t at = 0; at < block.size();) {
    const uint8_t first = block[at];
    if (first & 0x80) {
      skip_integer(block, at, 7);
      continue;
    }
    if (first & 0x60) return Effect::changes_table;
    if (first & 0x10) effect = Effect::keeps_secrets;
    if (skip_integer(block, at, 4) == 0) skip_string(block, at);
    skip_string(block, at);
  }
  return effect;
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

uint64_t hash_bytes(uint64_t hash, Bytes bytes) {
  hash = mix(hash, bytes.size());
  for (; bytes.size() >= 8; bytes = bytes.subspan(8)) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    hash = mix(hash, word);
  }
  uint64_t rest = 0;
  if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
  return mix(hash, rest);
}

uint64_t hash_text(uint64_t hash, std::string_view text) {
  return hash_bytes(hash, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

bool equal(const http::Headers& a, const http::Headers& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].name != b[i].name || a[i].value != b[i].value || a[i].sensitive != b[i].sensitive) return false;
  }
  return true;
}

}  // namespace

HeaderMemo& HeaderMemo::of_this_thread() {
  thread_local HeaderMemo memo;
  return memo;
}

HeaderMemo::HeaderMemo() {
  std::random_device device;
  seed_ = (uint64_t{device()} << 32) | device();
}

uint64_t HeaderMemo::hash_of(TableId table, Bytes block) const { return hash_bytes(mix(seed_, table), block); }

HeaderMemo::Section* HeaderMemo::decoded(TableId table, Bytes block) {
  if (block.size() > kMostBytes) return nullptr;
  const Decoded* known = decoded_.find(hash_of(table, block), [&](const Decoded& entry) {
    return entry.table == table && entry.section &&
           std::equal(block.begin(), block.end(), entry.block.begin(), entry.block.end());
  });
  return known ? known->section.get() : nullptr;
}

TableId HeaderMemo::learn_decoded(TableId table, Bytes block, const http::Headers& headers, uint32_t& changes) {
  const Effect effect = effect_of(block);
  if (effect == Effect::changes_table) return after(table, block, changes);
  if (effect == Effect::keeps_secrets || block.size() > kMostBytes) return table;
  const uint64_t hash = hash_of(table, block);
  const auto mark = static_cast<uint32_t>(hash >> 32);
  if (std::exchange(met_[hash % kSets], mark) != mark) return table;
  Decoded& entry = decoded_.displace(hash);
  entry.table = table;
  entry.block.assign(block.begin(), block.end());
  entry.section = section_of(headers);
  return table;
}

Bytes HeaderMemo::encoded(TableId table, uint64_t identity) const {
  if (identity == 0) return {};
  const Encoded* known = encoded_.find(mix(mix(seed_, table), identity), [&](const Encoded& entry) {
    return entry.table == table && entry.identity == identity;
  });
  return known ? Bytes(known->block) : Bytes();
}

TableId HeaderMemo::learn_encoded(TableId table, uint64_t identity, Bytes block, uint32_t& changes) {
  const Effect effect = effect_of(block);
  if (effect == Effect::changes_table) return after(table, block, changes);
  // A never-indexed field here is one that varies (see hpack.h): no section with a secret has an identity.
  if (identity == 0 || block.size() > kMostBytes) return table;
  Encoded& entry = encoded_.displace(mix(mix(seed_, table), identity));
  entry.table = table;
  entry.identity = identity;
  entry.block.assign(block.begin(), block.end());
  return table;
}

std::shared_ptr<HeaderMemo::Section> HeaderMemo::section_of(const http::Headers& headers) {
  uint64_t hash = seed_;
  for (const http::Field field : headers) hash = hash_text(hash_text(hash, field.name), field.value);
  const Content* known = contents_.find(
      hash, [&](const Content& entry) { return entry.section && equal(entry.section->headers, headers); });
  if (known) return known->section;
  Content& entry = contents_.displace(hash);
  entry.section = std::make_shared<Section>();
  entry.section->headers = headers;
  entry.section->headers.set_identity(++last_id_);
  for (const http::Field field : headers) entry.section->size += field.name.size() + field.value.size() + 32;
  return entry.section;
}

TableId HeaderMemo::after(TableId table, Bytes block, uint32_t& changes) {
  if (++changes > kSharedChanges || block.size() > 4 * kMostBytes) return unique_table();
  const uint64_t hash = hash_of(table, block);
  const Change* known = changes_.find(hash, [&](const Change& entry) {
    return entry.after != 0 && entry.before == table &&
           std::equal(block.begin(), block.end(), entry.block.begin(), entry.block.end());
  });
  if (known) return known->after;
  Change& entry = changes_.displace(hash);
  entry.before = table;
  entry.after = unique_table();
  entry.block.assign(block.begin(), block.end());
  return entry.after;
}

}  // namespace weir::http2
