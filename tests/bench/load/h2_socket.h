// One HTTP/2 connection of the bench's load generator or backend: an nghttp2 session on a non-blocking
// socket. Everything that a turn has to say leaves in one send, as gRPC's own libraries do it.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace bench {

class H2Socket {
 public:
  // Takes the descriptor, which must be non-blocking; the session follows by attach().
  explicit H2Socket(int fd) : fd_(fd) {}
  virtual ~H2Socket();
  H2Socket(const H2Socket&) = delete;
  H2Socket& operator=(const H2Socket&) = delete;

  // Takes the session and submits SETTINGS and a wide connection window, so that the measuring side never
  // holds the measured one back. At most `max_concurrent_streams` of the peer's.
  void attach(nghttp2_session* session, uint32_t max_concurrent_streams);

  // Bytes that go ahead of everything else (a connection that is not to look like HTTP/2).
  void prepend(std::string_view bytes) { output_.append(bytes); }

  // Reads what is there and feeds the session. False: the connection is over.
  bool receive();
  // Sends what the session has to say. False: the connection is over.
  bool send();
  // Whether the socket was full at the last send().
  bool blocked() const { return sent_ < output_.size(); }

  int fd() const { return fd_; }
  nghttp2_session* session() const { return session_; }

 protected:
  // What stands before the peer's first frame; returns how many of the bytes the session shall not see.
  virtual size_t skip(std::string_view) { return 0; }

 private:
  int fd_;
  nghttp2_session* session_ = nullptr;
  std::string output_;
  size_t sent_ = 0;
};

// A header whose name and value outlive the call that gets it.
nghttp2_nv header(std::string_view name, std::string_view value);

// Raises the limit of open descriptors as far as it goes.
void raise_descriptor_limit();

}  // namespace bench
