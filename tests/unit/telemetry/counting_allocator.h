// Counts what is taken from operator new and given back, in the whole test binary.
#pragma once

#include <cstdint>

namespace weir::telemetry {

uint64_t allocations();      // of the calling thread, ever
int64_t live_allocations();  // of all threads, not given back yet

}  // namespace weir::telemetry
