// AccessLog: what workers log of RPCs and connections goes through a bounded
// queue to a thread that formats and writes it, and keeps the last records (and
// the last failures in a ring of their own) for `weirctl logs`. A worker never
// waits for the file: what does not fit into the queue is dropped and counted.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "telemetry/log_record.h"

namespace weir::telemetry {

enum class LogMode : uint8_t { off, failed, all };
enum class LineFormat : uint8_t { text, json };

std::optional<LogMode> parse_log_mode(std::string_view text);        // "off", "failed", "all"
std::optional<LineFormat> parse_line_format(std::string_view text);  // "text", "json"

struct AccessLogOptions {
  LogMode mode = LogMode::failed;
  LineFormat format = LineFormat::text;
  std::string path = "-";  // "-" is stdout; /dev/stdout and /dev/stderr are the process's own
  std::map<std::string, LogMode, std::less<>> namespaces = {};  // of the source pod; others have `mode`
  size_t queue = 4096;                                          // records between workers and the writer
  size_t ring = 1024;                                           // records kept, and failures kept
};

struct LogFilter {
  std::string pod = {};      // "name", "name.namespace" or "namespace/name" of either end; empty: any
  std::string service = {};  // FQDN or its first label; empty: any
  bool failures = false;
  uint64_t after = 0;  // only records of a higher sequence number
};

class AccessLog {
 public:
  static base::Result<std::unique_ptr<AccessLog>> open(AccessLogOptions options);
  // Writes what is queued (for at most a second, if the reader of the pipe is stuck).
  ~AccessLog();

  LogMode mode() const { return mode_.load(std::memory_order_relaxed); }
  void set_mode(LogMode mode) { mode_.store(mode, std::memory_order_relaxed); }
  // What the namespace has of its own; nullopt: mode().
  std::optional<LogMode> mode_of(std::string_view namespace_name) const;

  // Queues the record, and leaves another one to fill in its place. Any thread.
  void push(std::unique_ptr<LogRecord>& record);
  uint64_t written() const { return written_.load(std::memory_order_relaxed); }
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

  // The last `count` records that pass, oldest first, as a JSON array of objects (the log's JSON
  // keys and "sequence"). Any thread.
  std::string tail(const LogFilter& filter, size_t count) const;

 private:
  // Those that were written are filled anew. A place that was never needed, or not of late, has none.
  using Batch = std::vector<std::unique_ptr<LogRecord>>;
  using Kept = std::shared_ptr<const LogRecord>;
  // The last records, each replaced by the one `capacity` later.
  struct Ring {
    std::vector<Kept> records;
    size_t next = 0;
    void keep(const Kept& record, size_t capacity);
  };

  AccessLog(AccessLogOptions options, base::Fd file, bool regular);
  void run();
  void write_out(std::span<const std::unique_ptr<LogRecord>> batch);
  bool write_bytes(std::string_view bytes);

  const AccessLogOptions options_;
  base::Fd file_;
  const bool regular_;  // a file: writing does not block for long
  std::atomic<LogMode> mode_;
  std::atomic<uint64_t> written_{0}, dropped_{0};

  std::mutex queue_mutex_;
  std::condition_variable queued_;
  Batch queue_;  // queue_[0, used_) wait
  size_t used_ = 0;
  bool stopping_ = false;

  mutable std::mutex ring_mutex_;
  Ring recent_, failures_;
  uint64_t last_sequence_ = 0;  // of the writer's thread

  std::thread writer_;
};

}  // namespace weir::telemetry
