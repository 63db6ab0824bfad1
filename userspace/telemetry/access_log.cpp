#include "telemetry/access_log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace weir::telemetry {
namespace {

// Between two looks at the queue: lines are written in batches, and a busy worker wakes the
// writer at most a hundred times a second.
constexpr auto kBatchEvery = std::chrono::milliseconds(10);
// A burst's records are freed when nobody needed them for so long.
constexpr auto kTrimEvery = std::chrono::seconds(1);
constexpr int kStuckAfterMs = 1000;

base::Result<base::Fd> open_file(const std::string& path) {
  int fd = -1;
  // By descriptor: opening /dev/stdout again fails where it is a socket.
  if (path == "-" || path == "/dev/stdout" || path == "/dev/stderr") {
    fd = ::fcntl(path == "/dev/stderr" ? STDERR_FILENO : STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
  } else {
    fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
  }
  if (fd < 0) return base::system_error("open access log " + path, errno);
  return base::Fd(fd);
}

bool names(std::string_view wanted, std::string_view namespace_name, std::string_view pod) {
  if (wanted == pod) return !pod.empty();
  if (pod.empty() || wanted.size() != pod.size() + 1 + namespace_name.size()) return false;
  if (wanted.substr(0, pod.size()) == pod && wanted[pod.size()] == '.' &&
      wanted.substr(pod.size() + 1) == namespace_name) {
    return true;
  }
  return wanted.substr(0, namespace_name.size()) == namespace_name && wanted[namespace_name.size()] == '/' &&
         wanted.substr(namespace_name.size() + 1) == pod;
}

// The second label of "service.namespace.svc...": endpoints are in their service's namespace.
std::string_view namespace_of(std::string_view fqdn) {
  const size_t dot = fqdn.find('.');
  if (dot == std::string_view::npos) return {};
  return fqdn.substr(dot + 1, fqdn.find('.', dot + 1) - dot - 1);
}

bool passes(const LogFilter& filter, const LogRecord& record) {
  if (record.sequence <= filter.after || (filter.failures && !record.failed())) return false;
  const std::string_view service = record.text(LogRecord::service);
  if (!filter.service.empty() && service != filter.service && service.substr(0, service.find('.')) != filter.service) {
    return false;
  }
  return filter.pod.empty() ||
         names(filter.pod, record.text(LogRecord::source_namespace), record.text(LogRecord::source_pod)) ||
         names(filter.pod, namespace_of(service), record.text(LogRecord::destination_pod));
}

}  // namespace

std::optional<LogMode> parse_log_mode(std::string_view text) {
  if (text == "off") return LogMode::off;
  if (text == "failed") return LogMode::failed;
  if (text == "all") return LogMode::all;
  return std::nullopt;
}

std::optional<LineFormat> parse_line_format(std::string_view text) {
  if (text == "text") return LineFormat::text;
  if (text == "json") return LineFormat::json;
  return std::nullopt;
}

base::Result<std::unique_ptr<AccessLog>> AccessLog::open(AccessLogOptions options) {
  auto file = open_file(options.path);
  if (!file) return file.error();
  struct stat info {};
  const bool regular = ::fstat(file->get(), &info) == 0 && S_ISREG(info.st_mode);
  return std::unique_ptr<AccessLog>(new AccessLog(std::move(options), std::move(*file), regular));
}

AccessLog::AccessLog(AccessLogOptions options, base::Fd file, bool regular)
    : options_(std::move(options)), file_(std::move(file)), regular_(regular), mode_(options_.mode) {
  queue_.resize(std::max<size_t>(options_.queue, 1));
  writer_ = std::thread([this] { run(); });
}

AccessLog::~AccessLog() {
  {
    std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  queued_.notify_one();
  writer_.join();
}

std::optional<LogMode> AccessLog::mode_of(std::string_view namespace_name) const {
  const auto found = options_.namespaces.find(namespace_name);
  if (found == options_.namespaces.end()) return std::nullopt;
  return found->second;
}

void AccessLog::push(std::unique_ptr<LogRecord>& record) {
  bool first = false;
  {
    std::lock_guard lock(queue_mutex_);
    if (used_ == queue_.size()) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    first = used_ == 0;
    std::swap(queue_[used_++], record);
  }
  if (!record) record = std::make_unique<LogRecord>();
  if (first) queued_.notify_one();
}

void AccessLog::run() {
  Batch batch(queue_.size());
  size_t most = 0;  // records at once since the last trim
  auto next_trim = std::chrono::steady_clock::now() + kTrimEvery;
  for (bool last = false; !last;) {
    size_t count = 0;
    {
      std::unique_lock lock(queue_mutex_);
      if (queued_.wait_until(lock, next_trim, [this] { return used_ > 0 || stopping_; }))
        queued_.wait_for(lock, kBatchEvery, [this] { return stopping_; });
      last = stopping_;
      batch.swap(queue_);
      count = std::exchange(used_, 0);
    }
    write_out({batch.data(), count});
    most = std::max(most, count);
    if (const auto now = std::chrono::steady_clock::now(); now >= next_trim) {
      // The other batch, which the workers fill now, gets its turn the next time or the one after.
      for (size_t i = most; i < batch.size(); ++i) batch[i].reset();
      most = 0;
      next_trim = now + kTrimEvery;
    }
  }
}

void AccessLog::Ring::keep(const Kept& record, size_t capacity) {
  if (records.size() < capacity) {
    records.push_back(record);
  } else if (capacity > 0) {
    records[next] = record;
    next = (next + 1) % capacity;
  }
}

void AccessLog::write_out(std::span<const std::unique_ptr<LogRecord>> batch) {
  {
    std::lock_guard lock(ring_mutex_);
    for (const auto& record : batch) {
      record->sequence = ++last_sequence_;
      const auto kept = std::make_shared<const LogRecord>(*record);
      recent_.keep(kept, options_.ring);
      if (record->failed()) failures_.keep(kept, options_.ring);
    }
  }
  // Whole lines in pieces of at most PIPE_BUF: a pipe takes such a piece whole once it polls
  // writable, and nobody else's output lands within a line.
  std::string piece, line;
  uint64_t lines = 0, written = 0;
  bool stuck = false;
  const auto flush = [&] {
    stuck = stuck || !write_bytes(piece);
    if (!stuck) written += lines;
    piece.clear();
    lines = 0;
  };
  for (const auto& record : batch) {
    line.clear();
    options_.format == LineFormat::json ? record->append_json(line) : record->append_text(line);
    line += '\n';
    if (!piece.empty() && piece.size() + line.size() > PIPE_BUF) flush();
    piece += line;
    ++lines;
  }
  flush();
  written_.fetch_add(written, std::memory_order_relaxed);
  dropped_.fetch_add(batch.size() - written, std::memory_order_relaxed);
}

// False if the file failed or its reader did not read for a second.
bool AccessLog::write_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    if (!regular_) {
      pollfd writable{file_.get(), POLLOUT, 0};
      const int ready = ::poll(&writable, 1, kStuckAfterMs);
      if (ready < 0 && errno == EINTR) continue;
      if (ready <= 0) return false;
    }
    const ssize_t n = ::write(file_.get(), bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string AccessLog::tail(const LogFilter& filter, size_t count) const {
  std::vector<const LogRecord*> found;
  std::string out = "[";
  std::lock_guard lock(ring_mutex_);
  for (const Ring* ring : {&recent_, &failures_}) {
    for (const Kept& record : ring->records) {
      if (passes(filter, *record)) found.push_back(record.get());
    }
  }
  std::sort(found.begin(), found.end(), [](auto* a, auto* b) { return a->sequence < b->sequence; });
  auto same = [](auto* a, auto* b) { return a->sequence == b->sequence; };
  found.erase(std::unique(found.begin(), found.end(), same), found.end());
  for (size_t i = found.size() - std::min(count, found.size()); i < found.size(); ++i) {
    if (out.size() > 1) out += ',';
    out += "{\"sequence\":" + std::to_string(found[i]->sequence) + ',';
    const size_t object = out.size();
    found[i]->append_json(out);
    out.erase(object, 1);  // its '{'
  }
  out += ']';
  return out;
}

}  // namespace weir::telemetry
