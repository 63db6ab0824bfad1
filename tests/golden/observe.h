// What weir does with the request of a golden case, as a JSON object with a key for everything a case can expect.
#pragma once

#include <nlohmann/json.hpp>

#include "table.h"

namespace weir::golden {

// Through the decoder, the object store, the translation into a Snapshot, and the routing. Error: the case dials what
// is not there, or its request is malformed.
base::Result<nlohmann::json> observe(const Case& one);

}  // namespace weir::golden
