// LibbpfLog catches what libbpf and the verifier print while it lives, so that
// a failed load can be explained. One at a time, on one thread; libbpf's output at
// other times is dropped, since its callers report errors themselves.
#pragma once

#include <cstddef>
#include <string>

namespace weir::interception {

class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  std::string last_lines(size_t count) const;

 private:
  std::string text_;
};

// The end of `text`, at most `count` lines, without a line break at the end.
std::string last_lines_of(const std::string& text, size_t count);

}  // namespace weir::interception
