#include "load_connection.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace bench {
namespace {

std::string_view text(const uint8_t* bytes, size_t size) { return {reinterpret_cast<const char*>(bytes), size}; }

// The fields that differ from call to call: traceparent (W3C Trace Context) and grpc-timeout.
class VaryingHeaders {
 public:
  void append(std::vector<nghttp2_nv>& headers) {
    std::snprintf(trace_, sizeof(trace_), "00-%016llx%016llx-%016llx-01", random(), random(), random());
    const int size = std::snprintf(timeout_, sizeof(timeout_), "%lluu", 9'000'000 + random() % 1'000'000);
    headers.push_back(header("traceparent", {trace_, sizeof(trace_) - 1}));
    headers.push_back(header("grpc-timeout", {timeout_, static_cast<size_t>(size)}));
    // Serialised later, when this has changed again: the library is to copy.
    for (auto field = headers.end() - 2; field != headers.end(); ++field) field->flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
  }

 private:
  unsigned long long random() {  // xorshift64
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }

  unsigned long long state_ = 88172645463325252ull;
  char trace_[56];
  char timeout_[16];
};

std::string error_of(const Call& call, uint32_t code) {
  if (code != NGHTTP2_NO_ERROR) return "RST_STREAM " + std::to_string(code);
  if (call.http_status != 200) return "HTTP " + std::to_string(call.http_status);
  if (call.grpc_status < 0) return "no grpc-status";
  return call.grpc_status == 0 ? "" : "grpc-status " + std::to_string(call.grpc_status);
}

int to_int(std::string_view digits) {
  int number = -1;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

}  // namespace

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

LoadConnection::LoadConnection(int fd, std::string authority, CallEvents& events)
    : H2Socket(fd), authority_(std::move(authority)), events_(events) {
  nghttp2_session* session = nullptr;
  nghttp2_session_client_new(&session, callbacks(), this);
  attach(session, 100);
}

void LoadConnection::begin(const Form& form, uint64_t due_ns) {
  static VaryingHeaders varying;
  static std::vector<nghttp2_nv> headers;
  form_ = &form;
  if (free_.empty()) free_.push_back(&calls_.emplace_back());
  Call* call = free_.back();
  free_.pop_back();
  *call = {};
  call->began_ns = due_ns;
  call->unsent = call->unreceived = form.message.size();
  call->rounds = form.rounds;
  headers = {
      header(":method", "POST"),        header(":scheme", "http"),          header(":path", form.path),
      header(":authority", authority_), header("user-agent", "rpc-load/1"), header("content-type", "application/grpc"),
      header("te", "trailers")};
  if (form.varying) varying.append(headers);
  nghttp2_data_provider provider{};
  provider.source.ptr = call;
  provider.read_callback = read_message;
  running_++;
  nghttp2_submit_request(session(), nullptr, headers.data(), headers.size(),
                         form.kind == Kind::hold ? nullptr : &provider, call);
}

ssize_t LoadConnection::read_message(nghttp2_session*, int32_t, uint8_t* buffer, size_t room, uint32_t* flags,
                                     nghttp2_data_source* source, void* user) {
  const auto& self = *static_cast<LoadConnection*>(user);
  auto& call = *static_cast<Call*>(source->ptr);
  const std::string& message = self.form_->message;
  if (self.form_->kind == Kind::echo) {
    if (call.unsent == 0 && call.rounds > 0) return NGHTTP2_ERR_DEFERRED;
    if (call.rounds == 0) return *flags |= NGHTTP2_DATA_FLAG_EOF, 0;
  }
  const size_t size = std::min(room, call.unsent);
  std::memcpy(buffer, message.data() + (message.size() - call.unsent), size);
  call.unsent -= size;
  if (call.unsent == 0 && self.form_->kind != Kind::echo) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return static_cast<ssize_t>(size);
}

int LoadConnection::on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t*, size_t size, void* user) {
  auto& self = *static_cast<LoadConnection*>(user);
  if (self.form_->kind != Kind::echo) return 0;
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call == nullptr || call->rounds == 0) return 0;
  call->unreceived -= std::min(size, call->unreceived);
  if (call->unreceived > 0) return 0;
  self.events_.on_round(*call);
  call->rounds = self.rounds_stopped_ ? 0 : call->rounds - 1;
  call->unsent = call->unreceived = self.form_->message.size();
  call->began_ns = now_ns();
  nghttp2_session_resume_data(session, id);
  return 0;
}

int LoadConnection::on_header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                              size_t name_size, const uint8_t* value, size_t value_size, uint8_t, void*) {
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
  if (call == nullptr) return 0;
  const std::string_view field = text(name, name_size), content = text(value, value_size);
  if (field == ":status") {
    call->http_status = to_int(content);
  } else if (field == "grpc-status") {
    call->grpc_status = to_int(content);
  } else if (field == "x-backend") {
    call->backend = to_int(content);
  }
  return 0;
}

int LoadConnection::on_stream_close(nghttp2_session* session, int32_t id, uint32_t code, void* user) {
  auto& self = *static_cast<LoadConnection*>(user);
  auto* call = static_cast<Call*>(nghttp2_session_get_stream_user_data(session, id));
  if (call == nullptr) return 0;
  self.running_--;
  self.free_.push_back(call);
  Call ended = *call;  // a new one may take its place
  self.events_.on_end(self, ended, error_of(ended, code));
  return 0;
}

nghttp2_session_callbacks* LoadConnection::callbacks() {
  static nghttp2_session_callbacks* made = [] {
    nghttp2_session_callbacks* fresh = nullptr;
    nghttp2_session_callbacks_new(&fresh);
    nghttp2_session_callbacks_set_on_header_callback(fresh, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(fresh, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(fresh, on_stream_close);
    return fresh;
  }();
  return made;
}

}  // namespace bench
