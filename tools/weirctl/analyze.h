// What the agent would make of manifests: its own decoder and translation, run on files without an agent.
#pragma once

#include <istream>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/finding.h"
#include "kubernetes/translate.h"

namespace weir::weirctl {

struct Analysis {
  size_t files = 0;
  size_t objects = 0;  // accepted, of the kinds that weir reads
  std::vector<config::Finding> findings;
};

// `paths` are files, folders (read as the agent reads its manifests: subfolders included, *.yaml, *.yml and *.json) and
// "-", which stands for `input`. All are one configuration, and a file counts once. An error: something cannot be read.
base::Result<Analysis> analyze(const std::vector<std::string>& paths, const kubernetes::ClusterSettings& settings,
                               std::istream& input);

}  // namespace weir::weirctl
