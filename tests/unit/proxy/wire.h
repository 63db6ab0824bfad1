// Clients and backends for the proxy's tests, on real loopback sockets but all in the
// test's own thread: a Party does what it can without waiting, and the Lab
// (lab.h) polls all of them until the test has what it waits for, or time is up.
#pragma once

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../http2/endpoint.h"
#include "base/address.h"
#include "base/fd.h"

namespace weir::proxy::testing {

using http2::testing::Endpoint;
using http2::testing::Fields;
using http2::testing::slice_of;
using http2::testing::StreamLog;
using http2::testing::to_headers;

inline base::SocketAddress loopback(uint16_t port) { return {*base::IpAddress::parse("127.0.0.1"), port}; }

inline base::SocketAddress address_of(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return {};
  return base::SocketAddress::from(storage);
}

// A listening socket on 127.0.0.1; port 0 takes a free one.
inline base::Fd listen_on_loopback(uint16_t port = 0, int backlog = 1024) {
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // as those in pods have it
  sockaddr_storage storage;
  const socklen_t size = loopback(port).to(storage);
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0 || listen(fd.get(), backlog) != 0) return {};
  return fd;
}

// `receive_buffer`: SO_RCVBUF; 0 leaves it to the kernel.
inline base::Fd connect_to(const base::SocketAddress& to, int receive_buffer = 0) {
  base::Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (receive_buffer > 0) setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  sockaddr_storage storage;
  const socklen_t size = to.to(storage);
  // To a listener on loopback this does not wait, unless its queue is full.
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0) return {};
  return fd;
}

// A port of 127.0.0.1 on which nothing listens.
inline uint16_t closed_port() { return address_of(listen_on_loopback().get()).port; }

class Party {
 public:
  virtual ~Party() = default;
  virtual void add_polls(std::vector<pollfd>& polls) const = 0;
  virtual void pump() = 0;
  // The end of the test is near.
  virtual void leave() {}
};

// The end of a TCP connection that is in the test's hands, byte by byte.
class Peer : public Party {
 public:
  explicit Peer(base::Fd fd) : fd_(std::move(fd)) {
    const int on = 1;  // as gRPC does; or delayed ACKs stop large bodies again and again
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }

  std::string received;
  std::string to_send;
  bool ended = false;   // the other end sent FIN
  bool reset = false;   // the other end sent RST
  bool reading = true;  // false: what comes stays in the kernel
  size_t total_read = 0;
  size_t read_limit = 256 * 1024;  // bytes a pump()

  bool open() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }
  void send(std::string_view bytes) {
    to_send += bytes;
    pump();
  }
  void finish_sending() {
    pump();
    ::shutdown(fd_.get(), SHUT_WR);
  }
  // What broke the connection; an end that reads nothing is told only so.
  int error() const {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    return error;
  }
  void close() { fd_.reset(); }
  void leave() override { abort(); }  // a relay would take a FIN for a half-close
  void abort() {
    const linger now{1, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    fd_.reset();
  }

  void add_polls(std::vector<pollfd>& polls) const override {
    if (!fd_) return;
    const bool read = reading && !ended && !reset;
    polls.push_back({fd_.get(), static_cast<short>((read ? POLLIN : 0) | (to_send.empty() ? 0 : POLLOUT)), 0});
  }
  void pump() override {
    if (!fd_) return;
    read_some();
    write_some();
  }

 protected:
  void read_some() {
    char bytes[65536];
    for (size_t got = 0; fd_ && reading && !ended && !reset && got < read_limit;) {
      const ssize_t n = recv(fd_.get(), bytes, std::min(sizeof bytes, read_limit - got), MSG_DONTWAIT);
      if (n > 0) {
        got += static_cast<size_t>(n);
        total_read += static_cast<size_t>(n);
        arrived({bytes, static_cast<size_t>(n)});
      } else if (n == 0) {
        ended = true;
      } else if (errno == EAGAIN) {
        return;
      } else {
        reset = true;
      }
    }
  }
  void write_some() {
    while (fd_ && !to_send.empty()) {
      const ssize_t n = ::send(fd_.get(), to_send.data(), to_send.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0) {
        if (errno != EAGAIN) {
          reset = true;
          to_send.clear();
        }
        return;
      }
      to_send.erase(0, static_cast<size_t>(n));
    }
  }
  virtual void arrived(std::string_view bytes) { received += bytes; }

  base::Fd fd_;
};

// A Peer that speaks HTTP/2.
class Wire final : public Peer {
 public:
  Wire(base::Fd fd, http2::Role role, const http2::Limits& limits = {})
      : Peer(std::move(fd)), endpoint(role, limits), server_(role == http2::Role::server) {}

  Endpoint endpoint;

  // A request whose head is under way; without a body if `end_stream`.
  StreamLog& call(const Fields& head = http2::testing::grpc_request(), bool end_stream = false) {
    StreamLog& log = endpoint.open();
    log.stream->send_headers(to_headers(head), end_stream);
    return log;
  }
  void leave() override { close(); }
  StreamLog& unary(std::string_view body = "hello") {
    StreamLog& log = call();
    log.stream->send_data(slice_of(body), true);
    return log;
  }
  void pump() override {
    if (!fd_) return;
    read_some();
    if (ended || reset) endpoint.connection.closed();
    // As servers do.
    if (server_ && (ended || reset || endpoint.connection.finished()) && to_send.empty()) return close();
    if (to_send.empty()) to_send = endpoint.output();
    write_some();
  }

 private:
  void arrived(std::string_view bytes) override { endpoint.input(bytes); }

  const bool server_;
};

// Listens, and makes a P of what connects.
template <class P>
class Listening : public Party {
 public:
  explicit Listening(std::function<std::unique_ptr<P>(base::Fd)> make, uint16_t port = 0)
      : make_(std::move(make)), fd_(listen_on_loopback(port)), address_(address_of(fd_.get())) {}

  std::vector<std::unique_ptr<P>> connections;
  std::function<void(P&)> on_accept;

  const base::SocketAddress& address() const { return address_; }
  size_t open_connections() const {
    return static_cast<size_t>(std::count_if(connections.begin(), connections.end(),
                                             [](const auto& c) { return c->open() && !c->ended && !c->reset; }));
  }
  void stop_listening() { fd_.reset(); }
  // The process is killed: its listener and all connections are gone.
  void die() {
    fd_.reset();
    for (auto& connection : connections) connection->abort();
  }

  void add_polls(std::vector<pollfd>& polls) const override {
    if (fd_) polls.push_back({fd_.get(), POLLIN, 0});
    for (const auto& connection : connections) connection->add_polls(polls);
  }
  void pump() override {
    while (fd_) {
      base::Fd accepted(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!accepted) break;
      connections.push_back(make_(std::move(accepted)));
      if (on_accept) on_accept(*connections.back());
    }
    for (auto& connection : connections) connection->pump();
  }

 private:
  std::function<std::unique_ptr<P>(base::Fd)> make_;
  base::Fd fd_;
  base::SocketAddress address_;
};

// A server of raw bytes.
class RawBackend final : public Listening<Peer> {
 public:
  RawBackend() : Listening([](base::Fd fd) { return std::make_unique<Peer>(std::move(fd)); }) {}
  void leave() override { die(); }
};

// What a server answers once it has the whole request: its body, and status 0.
inline void echo(StreamLog& log) {
  if (!log.ended || !log.stream) return;
  if (log.sent == 0 && log.stream->all_sent()) {
    log.stream->send_headers(to_headers({{":status", "200"}, {"content-type", "application/grpc"}}), false);
    log.stream->send_data(slice_of(log.body), false);
    log.stream->send_trailers(to_headers({{"grpc-status", "0"}}));
  }
  if (log.stream->all_sent()) log.release();
}

// An HTTP/2 server. Requests are answered by `on_event`, which is called in every event of every stream.
class Backend final : public Listening<Wire> {
 public:
  explicit Backend(std::function<void(StreamLog&)> on_event = echo, const http2::Limits& limits = {})
      : Listening([this, limits](base::Fd fd) {
          auto wire = std::make_unique<Wire>(std::move(fd), http2::Role::server, limits);
          wire->endpoint.on_event = on_event_;
          wire->endpoint.consume_at_once = consume_at_once;
          return wire;
        }),
        on_event_(std::move(on_event)) {}

  bool consume_at_once = true;

  // All requests that ever came, in order of their connections.
  std::vector<StreamLog*> requests() const {
    std::vector<StreamLog*> all;
    for (const auto& connection : connections)
      for (const auto& log : connection->endpoint.logs) all.push_back(log.get());
    return all;
  }
  size_t request_count() const { return requests().size(); }
  // The one request that came.
  StreamLog* only_request() const {
    const auto all = requests();
    return all.size() == 1 ? all[0] : nullptr;
  }

 private:
  std::function<void(StreamLog&)> on_event_;
};

// What a client has of a call.
inline std::string field(const Fields& fields, std::string_view name) {
  for (const auto& [key, value] : fields)
    if (key == name) return value;
  return "";
}
inline bool complete(const StreamLog& call) { return call.ended || call.reset; }
// grpc-status, from the trailers or a Trailers-Only head; -1 if there is none.
inline int grpc_status(const StreamLog& call) {
  std::string text;
  if (call.trailers)
    text = field(*call.trailers, "grpc-status");
  else if (!call.heads.empty())
    text = field(call.heads.back(), "grpc-status");
  return text.empty() ? -1 : std::stoi(text);
}
inline std::string grpc_message(const StreamLog& call) {
  if (call.trailers) return field(*call.trailers, "grpc-message");
  return call.heads.empty() ? "" : field(call.heads.back(), "grpc-message");
}
inline bool trailers_only(const StreamLog& call) {
  return call.heads.size() == 1 && call.ended && !call.trailers && call.body.empty();
}

}  // namespace weir::proxy::testing
