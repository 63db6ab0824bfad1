// Golden tables as they stand in tables/*.yaml; README.md describes the format.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace weir::golden {

// A manifest file of the set: what it is called in findings, and its text.
using Manifest = std::pair<std::string, std::string>;

struct Case {
  std::string table, name;
  std::string file;  // where it stands
  int line = 0;
  std::vector<Manifest> manifests;
  nlohmann::json request;  // the table's, and over it the case's
  nlohmann::json expect;   // "findings" always among it
};

// All cases of one file. Paths of manifests are relative to `root`. Error: what is wrong in the file, with its line;
// a key that means nothing is wrong too.
base::Result<std::vector<Case>> read_tables(const std::filesystem::path& file, const std::filesystem::path& root);

}  // namespace weir::golden
