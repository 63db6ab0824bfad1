#include "h2_socket.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace bench {
namespace {

constexpr size_t kReceiveBuffer = 256 * 1024;
constexpr size_t kGathered = 64 * 1024;  // what one send holds at most, but for its last frame
constexpr int32_t kWindow = (1 << 30) - 1;

}  // namespace

H2Socket::~H2Socket() {
  if (session_ != nullptr) nghttp2_session_del(session_);
  close(fd_);
}

void H2Socket::attach(nghttp2_session* session, uint32_t max_concurrent_streams) {
  session_ = session;
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow},
                                             {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_concurrent_streams}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kWindow);
}

bool H2Socket::receive() {
  static uint8_t buffer[kReceiveBuffer];  // one thread
  for (;;) {
    const ssize_t got = recv(fd_, buffer, sizeof(buffer), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    const auto size = static_cast<size_t>(got);
    const size_t skipped = skip({reinterpret_cast<const char*>(buffer), size});
    if (nghttp2_session_mem_recv(session_, buffer + skipped, size - skipped) < 0) return false;
    if (size < sizeof(buffer)) return true;
  }
}

bool H2Socket::send() {
  for (;;) {
    while (output_.size() - sent_ < kGathered) {
      const uint8_t* bytes = nullptr;
      const ssize_t size = nghttp2_session_mem_send(session_, &bytes);
      if (size < 0) return false;
      if (size == 0) break;
      output_.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
    }
    if (output_.size() == sent_) return true;
    const ssize_t put = ::send(fd_, output_.data() + sent_, output_.size() - sent_, MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EINTR;
    sent_ += static_cast<size_t>(put);
    if (blocked()) return true;
    output_.clear();
    sent_ = 0;
  }
}

nghttp2_nv header(std::string_view name, std::string_view value) {
  auto bytes = [](std::string_view text) { return reinterpret_cast<uint8_t*>(const_cast<char*>(text.data())); };
  return {bytes(name), bytes(value), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace bench
