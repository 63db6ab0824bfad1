// The bytes of one manifest file, bounded.
#pragma once

#include <string>

#include "base/result.h"

namespace weir::kubernetes {

// Error code EFBIG: more than weir reads. Only regular files; never waits for a writer.
base::Result<std::string> read_file(const std::string& path);

}  // namespace weir::kubernetes
