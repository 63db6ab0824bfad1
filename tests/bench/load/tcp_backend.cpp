// The server of tcp_load, with one thread, on three ports of 0.0.0.0 in a row:
//   tcp_backend PORT      PORT echoes; PORT + 1 echoes once and ends the connection; PORT + 2 greets, then does as PORT
//   + 1
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tcp_pattern.h"

namespace {

struct Kind {
  bool greets, ends;
};
constexpr Kind kKinds[] = {{false, false}, {false, true}, {true, true}};

struct Connection {
  int fd;
  Kind kind;
  bool listener;
  size_t at = 0, size = 0;  // of `bytes`: what is to go back
  std::array<uint8_t, 64 * 1024> bytes;
};

void watch(int poll, int how, uint32_t events, Connection* connection) {
  epoll_event interest{events, {.ptr = connection}};
  epoll_ctl(poll, how, connection->fd, &interest);
}

void listen_on(int poll, uint16_t port, Kind kind) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 4096) != 0) {
    std::perror("tcp_backend: listen");
    std::exit(1);
  }
  watch(poll, EPOLL_CTL_ADD, EPOLLIN, new Connection{.fd = fd, .kind = kind, .listener = true, .bytes = {}});
}

void accept_one(int poll, const Connection& listener) {
  static const std::vector<uint8_t> pattern = bench::make_pattern(0);
  const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  auto* connection = new Connection;  // its bytes are not cleared
  connection->fd = fd;
  connection->kind = listener.kind;
  connection->listener = false;
  if (listener.kind.greets) send(fd, pattern.data(), bench::kMessage, MSG_NOSIGNAL);
  watch(poll, EPOLL_CTL_ADD, EPOLLIN, connection);
}

// False: the connection is over.
bool serve(int poll, Connection& connection) {
  const bool waited = connection.at < connection.size;
  if (!waited) {
    const ssize_t n = recv(connection.fd, connection.bytes.data(), connection.bytes.size(), 0);
    if (n <= 0) return false;
    connection.at = 0;
    connection.size = static_cast<size_t>(n);
  }
  const size_t left = connection.size - connection.at;
  const ssize_t n = send(connection.fd, connection.bytes.data() + connection.at, left, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) return false;
  if (n > 0) connection.at += static_cast<size_t>(n);
  const bool waits = connection.at < connection.size;
  if (waits != waited) watch(poll, EPOLL_CTL_MOD, waits ? EPOLLOUT : EPOLLIN, &connection);
  return waits || !connection.kind.ends;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tcp_backend PORT\n");
    return 64;
  }
  const int poll = epoll_create1(EPOLL_CLOEXEC);
  auto port = static_cast<uint16_t>(std::atoi(argv[1]));
  for (const Kind kind : kKinds) listen_on(poll, port++, kind);
  epoll_event events[256];
  for (;;) {
    const int count = epoll_wait(poll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      auto* connection = static_cast<Connection*>(events[i].data.ptr);
      if (connection->listener) {
        accept_one(poll, *connection);
      } else if (!serve(poll, *connection)) {
        close(connection->fd);
        delete connection;
      }
    }
  }
}
