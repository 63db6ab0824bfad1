// The allocator, as the workers use it: an arena for each, which grows in bursts. What a burst took goes back to the
// kernel when a worker asks, not while it is freed: that would be a system call per 128 KiB.
#pragma once

#include <cstdint>

namespace weir::proxy {

// Before there are threads. The other threads, among them every one of the admin server, share a few arenas: glibc
// would keep up to eight a core, with some free memory in each.
void set_up_heap(uint32_t workers);

// Gives the kernel the free pages of all arenas and the free end of the calling thread's. Takes some milliseconds after
// a burst. Any thread.
void give_heap_back();

}  // namespace weir::proxy
