// Calls over many HTTP/2 connections from one thread: closed loop (so many calls at a time on each
// connection) or open loop (calls at set times, whose latency counts from then, so that a stall shows).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "dialer.h"
#include "load_result.h"

namespace bench {

struct LoadOptions {
  std::vector<Target> targets;
  unsigned connections = 1;         // to each target
  unsigned streams = 1;             // calls at a time on each connection; open loop: ignored
  double rate = 0;                  // calls a second over all connections; 0: closed loop
  double warm_up = 0.5;             // seconds before the window
  double duration = 2;              // seconds of the window
  std::string method = "Reply1x0";  // see calls.h
  uint32_t request_size = 0;        // bytes of each request message
  uint32_t rounds = 1000;           // messages of an Echo call; each that comes back counts as a call
  bool varying = false;             // a fresh trace id and another grpc-timeout in each call
  bool not_http2 = false;           // kNotHttp2 ahead of each connection
  pid_t watch = 0;                  // process whose CPU is measured
  std::string cgroup;               // cgroup whose CPU is measured
};

// Runs the load to its end: warm-up, window, and up to five seconds for what is under way. With
// `window_begins`, calls it at that moment. Throws std::exception when connections can't be opened.
LoadResult run_load(const LoadOptions& options, void (*window_begins)());

}  // namespace bench
