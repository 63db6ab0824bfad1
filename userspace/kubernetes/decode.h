// The one typed decoder: manifest text (or one JSON object) -> typed objects,
// with a finding for everything that is wrong or that weir does not do. An
// object with a wrong field is rejected as a whole, named so that its last good
// version can stay; the others of its file are not affected.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/finding.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

struct Document;

// What one source (a file) holds.
struct SourceContents {
  std::vector<Object> objects;      // good ones, in the order of the file
  std::vector<ObjectKey> rejected;  // named in the file, but not acceptable
  bool complete = true;             // false: there was more that could not even be named
  std::vector<config::Finding> findings;
};

// A `.json` file is JSON, everything else YAML.
SourceContents read_manifest(std::string_view text, const std::string& file);

// One document; adds to `contents`.
void decode(const Document& document, const std::string& file, SourceContents& contents);

}  // namespace weir::kubernetes
