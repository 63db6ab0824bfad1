// What a manifests directory holds at one moment: the manifest files with what
// tells one version from the next, and the folders to watch. Hidden entries and
// editors' temporary files are left out; symbolic links are followed, as ConfigMap
// volumes need it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/finding.h"

namespace weir::kubernetes {

inline constexpr size_t kMaxFiles = 10'000;
inline constexpr int kMaxFolderDepth = 8;

struct FileVersion {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t modified_ns = 0;  // of the wall clock
  int64_t changed_ns = 0;
  bool operator==(const FileVersion&) const = default;
};

struct DirectoryListing {
  std::map<std::string, FileVersion> files;
  std::vector<std::string> folders;     // the root included, sorted
  std::vector<std::string> unreadable;  // folders of which nothing is known now
  std::vector<std::string> too_deep;    // folders that were not looked into
  bool complete = true;                 // false: there are more files than weir reads
};

// `before_reading` runs for each folder before its entries are read, so that a watch
// set there misses nothing. An error: the root itself cannot be read.
base::Result<DirectoryListing> list_manifests(const std::string& root,
                                              const std::function<void(const std::string& folder)>& before_reading);

// What it could not read of `root`, or left out.
std::vector<config::Finding> findings_about(const std::string& root, const DirectoryListing& listing);

bool is_manifest_name(std::string_view name);

}  // namespace weir::kubernetes
