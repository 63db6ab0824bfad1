// Bytes of a manifest -> documents: YAML (several documents a file) and JSON
// both become nlohmann::json, Lists flattened, with the line of every node.
// Input is hostile: sizes, depth and expanded aliases are bounded, one bad YAML
// document does not take the others of its file down, nothing throws.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kubernetes/findings.h"

namespace weir::kubernetes {

// A 4 MiB file holds some 10,000 endpoints. Larger ones are refused unread.
inline constexpr size_t kMaxFileBytes = size_t{4} << 20;
inline constexpr char kSplitTheFile[] = "split the file";
// Per file, aliases expanded. Kubernetes' own objects are about 10 levels deep.
inline constexpr size_t kMaxNodes = 500'000;
inline constexpr size_t kMaxTextBytes = 2 * kMaxFileBytes;
inline constexpr int kMaxDepth = 64;
inline constexpr size_t kMaxDocuments = 20'000;  // of YAML, per file

// The lines of a document's nodes, by a hash of the node's path. A collision
// gives a wrong line in a message, nothing worse.
class LineTable {
 public:
  static constexpr uint64_t kRoot = 0x9E3779B97F4A7C15ull;
  static uint64_t child(uint64_t path, std::string_view key);
  static uint64_t child(uint64_t path, size_t index);

  void add(uint64_t path, int line) { lines_.emplace_back(path, line); }
  void seal();                    // after the last add()
  int find(uint64_t path) const;  // 0: unknown

 private:
  std::vector<std::pair<uint64_t, int>> lines_;
};

struct Document {
  nlohmann::json value;
  uint64_t path = LineTable::kRoot;        // of `value` in its file's document: the items of a List are deeper
  int line = 0;                            // 1-based, 0 unknown
  std::shared_ptr<const LineTable> lines;  // null for objects that came from the API server
};

struct Documents {
  std::vector<Document> documents;
  std::vector<config::Finding> findings;
  bool complete = true;  // false: there was something that could not be read
};

enum class Format : uint8_t { yaml, json };

// What the finding says of a file of so many bytes.
std::string too_large(size_t bytes);

Documents parse_documents(std::string_view text, const std::string& file, Format format);

}  // namespace weir::kubernetes
