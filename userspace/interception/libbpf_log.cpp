#include "interception/libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>

namespace weir::interception {
namespace {

thread_local std::string* captured = nullptr;

[[gnu::format(printf, 2, 0)]] int print(libbpf_print_level level, const char* format, va_list arguments) {
  if (!captured || level == LIBBPF_DEBUG) return 0;
  va_list again;
  va_copy(again, arguments);
  int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (length <= 0) return 0;
  size_t end = captured->size();
  captured->resize(end + static_cast<size_t>(length) + 1);
  std::vsnprintf(captured->data() + end, static_cast<size_t>(length) + 1, format, arguments);
  captured->pop_back();
  return length;
}

}  // namespace

LibbpfLog::LibbpfLog() {
  captured = &text_;
  libbpf_set_print(print);
}

LibbpfLog::~LibbpfLog() { captured = nullptr; }

std::string LibbpfLog::last_lines(size_t count) const { return last_lines_of(text_, count); }

std::string last_lines_of(const std::string& text, size_t count) {
  size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos || count == 0) return "";
  size_t begin = end + 1;
  for (; count > 0; --count) {
    begin = begin == 0 ? std::string::npos : text.rfind('\n', begin - 1);
    if (begin == std::string::npos) return text.substr(0, end + 1);
  }
  return text.substr(begin + 1, end - begin);
}

}  // namespace weir::interception
