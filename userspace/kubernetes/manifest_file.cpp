#include "kubernetes/manifest_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/fd.h"
#include "kubernetes/document.h"

namespace weir::kubernetes {

base::Result<std::string> read_file(const std::string& path) {
  // O_NONBLOCK: a fifo must not hold up the agent.
  base::Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return base::system_error("open", errno);
  struct stat status;
  if (fstat(file.get(), &status) != 0) return base::system_error("stat", errno);
  if (!S_ISREG(status.st_mode)) return base::Error{"not a regular file"};
  const auto file_size = static_cast<size_t>(status.st_size);
  if (file_size > kMaxFileBytes) return base::Error{too_large(file_size), EFBIG};
  // It may grow while it is read: one byte more tells.
  std::string text(file_size + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::system_error("read", errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
    if (size == text.size() && size <= kMaxFileBytes) text.resize(std::min(2 * size, kMaxFileBytes + 1));
  }
  if (size > kMaxFileBytes) return base::Error{too_large(size), EFBIG};
  text.resize(size);
  return text;
}

}  // namespace weir::kubernetes
