// One connection of the load generator, and the calls on it.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "calls.h"
#include "h2_socket.h"

namespace bench {

uint64_t now_ns();

struct Call {
  uint64_t began_ns = 0;  // when it was due
  size_t unsent = 0;      // bytes of the message that have not been framed
  size_t unreceived = 0;  // Echo: bytes of the message that have not come back
  uint32_t rounds = 0;    // Echo: messages that are still to be sent
  int http_status = 0;
  int grpc_status = -1;  // none came
  int backend = -1;      // none named itself
};

// What happens to calls; `error` is empty for a success.
class CallEvents {
 public:
  virtual ~CallEvents() = default;
  virtual void on_round(Call& call) = 0;  // Echo: a message has come back
  virtual void on_end(class LoadConnection& connection, Call& call, const std::string& error) = 0;
};

class LoadConnection : public H2Socket {
 public:
  LoadConnection(int fd, std::string authority, CallEvents& events);

  // What every call of this process is like.
  struct Form {
    Kind kind = Kind::reply;
    std::string path;
    std::string message;
    uint32_t rounds = 0;
    bool varying = false;
  };

  void begin(const Form& form, uint64_t due_ns);
  size_t running() const { return running_; }
  // Whether the peer still takes calls (no GOAWAY has come).
  bool usable() const { return nghttp2_session_check_request_allowed(session()) != 0; }
  void stop_rounds() { rounds_stopped_ = true; }

 private:
  static nghttp2_session_callbacks* callbacks();
  static int on_header(nghttp2_session*, const nghttp2_frame*, const uint8_t*, size_t, const uint8_t*, size_t, uint8_t,
                       void*);
  static int on_data(nghttp2_session*, uint8_t, int32_t, const uint8_t*, size_t, void*);
  static int on_stream_close(nghttp2_session*, int32_t, uint32_t, void*);
  static ssize_t read_message(nghttp2_session*, int32_t, uint8_t*, size_t, uint32_t*, nghttp2_data_source*, void*);

  std::string authority_;
  CallEvents& events_;
  const Form* form_ = nullptr;
  std::deque<Call> calls_;
  std::vector<Call*> free_;
  size_t running_ = 0;
  bool rounds_stopped_ = false;
};

}  // namespace bench
