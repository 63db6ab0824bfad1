// The agent's own log (not the access log): structured lines through spdlog,
// text or JSON, written by a thread of their own so that a slow stderr never
// holds up a worker. Messages are for operators: what happened, to which object.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#include "base/result.h"

namespace weir::base {

enum class LogFormat { text, json };

// Sets up the process's logger. `level` is one of trace, debug, info, warn,
// error, off. Call once, before any thread starts.
Result<void> start_logging(const std::string& level, LogFormat format);
// Changes the level of a running process.
Result<void> set_log_level(const std::string& level);
// Writes out what is queued and ends the log thread.
void stop_logging();

namespace log = spdlog;

}  // namespace weir::base
