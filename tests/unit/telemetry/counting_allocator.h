// Counts what the calling thread takes from operator new, in the whole test binary.
#pragma once

#include <cstdint>

namespace weir::telemetry {

uint64_t allocations();

}  // namespace weir::telemetry
