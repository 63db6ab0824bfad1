// The bench's backend: a gRPC-shaped HTTP/2 server with one thread, which answers the calls of calls.h.
//   rpc_backend PORT NUMBER     listens on 0.0.0.0:PORT; replies carry "x-backend: NUMBER"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <utility>

#include "calls.h"
#include "h2_socket.h"

namespace bench {
namespace {

constexpr uint32_t kMaxConcurrentStreams = 100;  // nghttpd's, and what most gRPC servers announce
std::string g_number;

struct Stream {
  Wanted wanted;
  const std::string* message = nullptr;
  size_t at = 0;       // bytes of the reply that have left
  size_t end = 0;      // bytes of the reply
  std::string echoed;  // what is to go back
  bool request_ended = false;
};

const std::string* message_of(uint32_t size) {
  static std::unordered_map<uint32_t, std::string> messages;
  auto [at, added] = messages.try_emplace(size);
  if (added) at->second = message(size);
  return &at->second;
}

class Connection final : public H2Socket {
 public:
  using H2Socket::H2Socket;
  std::unordered_map<int32_t, Stream> streams;

 private:
  size_t skip(std::string_view bytes) override {
    const bool first = !std::exchange(begun_, true);
    return first && bytes.starts_with(kNotHttp2) ? kNotHttp2.size() : 0;
  }
  bool begun_ = false;
};

Stream* stream_of(void* user, int32_t id) {
  auto& streams = static_cast<Connection*>(user)->streams;
  auto at = streams.find(id);
  return at == streams.end() ? nullptr : &at->second;
}

void end_reply(nghttp2_session* session, int32_t id, uint32_t* flags) {
  *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
  const nghttp2_nv trailers[] = {header("grpc-status", "0")};
  nghttp2_submit_trailer(session, id, trailers, 1);
}

// A message a frame, as gRPC servers send those of a stream.
ssize_t read_messages(nghttp2_session* session, int32_t id, uint8_t* buffer, size_t room, uint32_t* flags,
                      nghttp2_data_source* source, void*) {
  auto& stream = *static_cast<Stream*>(source->ptr);
  const size_t within = stream.at % stream.message->size();
  const size_t size = std::min({room, stream.message->size() - within, stream.end - stream.at});
  std::memcpy(buffer, stream.message->data() + within, size);
  stream.at += size;
  if (stream.at == stream.end) end_reply(session, id, flags);
  return static_cast<ssize_t>(size);
}

ssize_t read_echo(nghttp2_session* session, int32_t id, uint8_t* buffer, size_t room, uint32_t* flags,
                  nghttp2_data_source* source, void*) {
  auto& stream = *static_cast<Stream*>(source->ptr);
  if (stream.echoed.empty() && !stream.request_ended) return NGHTTP2_ERR_DEFERRED;
  const size_t size = std::min(room, stream.echoed.size());
  std::memcpy(buffer, stream.echoed.data(), size);
  stream.echoed.erase(0, size);
  if (stream.request_ended && stream.echoed.empty()) end_reply(session, id, flags);
  return static_cast<ssize_t>(size);
}

void reply(nghttp2_session* session, int32_t id, Stream& stream) {
  nghttp2_data_provider provider{};
  provider.source.ptr = &stream;
  provider.read_callback = stream.wanted.kind == Kind::echo ? read_echo : read_messages;
  const nghttp2_nv headers[] = {header(":status", "200"), header("content-type", "application/grpc"),
                                header("x-backend", g_number)};
  nghttp2_submit_response(session, id, headers, 3, &provider);
}

int on_begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
  static_cast<Connection*>(user)->streams.try_emplace(frame->hd.stream_id);
  return 0;
}

int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size, const uint8_t* value,
              size_t value_size, uint8_t, void* user) {
  Stream* stream = stream_of(user, frame->hd.stream_id);
  if (stream == nullptr || std::string_view(reinterpret_cast<const char*>(name), name_size) != ":path") return 0;
  return parse_path({reinterpret_cast<const char*>(value), value_size}, stream->wanted)
             ? 0
             : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  Stream* stream = stream_of(user, frame->hd.stream_id);
  if (stream == nullptr) return 0;
  const bool ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  stream->request_ended |= ended;
  if (stream->wanted.kind == Kind::echo) {
    if (frame->hd.type == NGHTTP2_HEADERS) reply(session, frame->hd.stream_id, *stream);
    if (ended) nghttp2_session_resume_data(session, frame->hd.stream_id);
  } else if (stream->wanted.kind == Kind::reply && ended) {
    stream->message = message_of(stream->wanted.size);
    stream->end = stream->message->size() * stream->wanted.count;
    reply(session, frame->hd.stream_id, *stream);
  }
  return 0;
}

int on_data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* user) {
  Stream* stream = stream_of(user, id);
  if (stream == nullptr || stream->wanted.kind != Kind::echo) return 0;
  stream->echoed.append(reinterpret_cast<const char*>(bytes), size);
  nghttp2_session_resume_data(session, id);
  return 0;
}

int on_stream_close(nghttp2_session*, int32_t id, uint32_t, void* user) {
  static_cast<Connection*>(user)->streams.erase(id);
  return 0;
}

nghttp2_session* new_session(Connection* connection) {
  static nghttp2_session_callbacks* callbacks = [] {
    nghttp2_session_callbacks* made = nullptr;
    nghttp2_session_callbacks_new(&made);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, on_stream_close);
    return made;
  }();
  nghttp2_session* session = nullptr;
  nghttp2_session_server_new(&session, callbacks, connection);
  return session;
}

int listen_on(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 4096) != 0) {
    std::perror("rpc_backend: listen");
    std::exit(1);
  }
  return fd;
}

void serve(uint16_t port) {
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  const int listener = listen_on(port);
  epoll_event interest{EPOLLIN, {nullptr}};
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &interest);
  epoll_event events[256];
  for (;;) {
    const int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      if (connection == nullptr) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) continue;
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        connection = new Connection(fd);
        connection->attach(new_session(connection), kMaxConcurrentStreams);
        epoll_event every{EPOLLIN | EPOLLOUT | EPOLLET, {connection}};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &every);
      } else if (!connection->receive() || !connection->send()) {
        delete connection;  // with its descriptor, so out of the poll set
      }
    }
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: rpc_backend PORT NUMBER\n");
    return 64;
  }
  bench::raise_descriptor_limit();
  bench::g_number = argv[2];
  bench::serve(static_cast<uint16_t>(std::atoi(argv[1])));
}
