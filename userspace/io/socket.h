// Socket: a connected stream socket driven by a reactor. It receives into the
// reactor's buffers and sends without ever waiting inside the kernel; what does
// not fit is reported as a short count and on_writable() tells when to go on.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "base/address.h"
#include "base/buffer.h"
#include "base/fd.h"
#include "io/pipe.h"
#include "io/reactor.h"

namespace weir::io {

class SocketEvents {
 public:
  virtual ~SocketEvents() = default;
  virtual void on_connected(int error) = 0;  // 0, or an errno value
  virtual void on_received(base::Slice bytes) = 0;
  virtual void on_receive_end(int error) = 0;  // 0: the peer sent FIN; otherwise an errno value
  virtual void on_readable() {}                // after await_readable()
  // The send() is over: `result` bytes went (fewer than given: on_writable() follows), or -errno.
  virtual void on_sent(int result) = 0;
  virtual void on_writable() = 0;
  // After close(), which returns first: nothing refers to the socket any more and it may be destroyed, also from here.
  virtual void on_closed() = 0;
};

class Socket {
 public:
  // set_events() comes before anything is started. `inherits`: it was accepted by a listener that has TCP_NODELAY.
  Socket(Reactor& reactor, base::Fd fd, bool inherits = false);
  ~Socket();  // only before anything was started, or after on_closed()
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  void connect(const base::SocketAddress& address);
  // Before connect(): takes a local port now, of the half that Linux leaves alone when connect() chooses; if none is
  // free, connect() chooses after all. Until its TIME_WAIT is over the port is no other connection's, wherever that
  // goes, so this is for a few. (IP_LOCAL_PORT_RANGE, Linux 6.3, would let connect() share ports between destinations,
  // but within such a range it takes those of either half since 6.8.)
  void bind_apart(sa_family_t family);
  // From now on every chunk is reported as it comes, until on_receive_end(). One turn may bring half a megabyte.
  void receive();
  // One chunk (or the end) is reported; then the socket is quiet until the next call.
  void receive_once();
  // on_readable() tells once that there are bytes, or the end: for receive_into().
  void await_readable();
  // Moves what came into an empty pipe: how many bytes, or the -errno that broke the connection. 0: what is there can't
  // be moved (bytes behind urgent data, or the end), receive_once() gets it.
  int receive_into(Pipe& pipe);
  // Ends receive(): nothing more is asked of the kernel until the next call of either, so that TCP holds the peer back;
  // what the kernel has handed over is still reported.
  void pause_receive();
  // With the last chunk there was more to receive, bytes or the end.
  bool more_to_receive() const { return more_to_receive_; }
  bool receiving() const { return receive_.pending() || receive_retry_.scheduled(); }
  // One at a time: see sending(). What went whole is told by on_sent() when the loop has something else to do, too,
  // unless `more` says that the caller goes on as soon as it comes. `joined`: the next send, or shutdown_write(),
  // comes within a turn, and may share a segment with this.
  void send(std::span<const iovec> bytes, bool more, bool joined = false);
  // Moves bytes out of the pipe: how many, or -errno. If some are left, on_writable() follows.
  int send_from(Pipe& pipe);
  bool sending() const { return send_.pending() || waiting_writable_; }
  void shutdown_write();
  // No event but on_closed() follows. `abort`: with RST, what is unsent is dropped.
  void close(bool abort = false);
  bool closing() const { return closing_; }

  // SO_KEEPALIVE: so many probes, so many seconds apart, after so many of silence; zero leaves the kernel's value.
  void keep_alive(int probes, int idle_seconds, int interval_seconds);

  // Names the user; a socket, with a receive pending or not, can be handed over.
  void set_events(SocketEvents& events) { events_ = &events; }

  int fd() const { return fd_.get(); }
  // What broke the connection, an errno value, of which nobody has heard yet; 0: nothing did.
  int error() const;
  // Bytes of sends that were taken, but not by the peer's window yet.
  int unsent() const;
  base::SocketAddress local() const;

 private:
  template <void (Socket::*kCompleted)(int32_t, uint32_t)>
  class Part final : public Operation {
   public:
    explicit Part(Socket& socket) : socket_(socket) {}
    void completed(int32_t result, uint32_t flags) override { (socket_.*kCompleted)(result, flags); }

   private:
    Socket& socket_;
  };

  void connect_completed(int32_t result, uint32_t flags);
  void receive_completed(int32_t result, uint32_t flags);
  void send_completed(int32_t result, uint32_t flags);
  void writable_completed(int32_t result, uint32_t flags);
  void retry_receive(base::Instant now);
  void ask(bool multishot);
  void arm_receive();
  void wait_writable();
  void report_closed(base::Instant now);
  void report_closed_if_idle();

  Reactor& reactor_;
  base::Fd fd_;
  SocketEvents* events_ = nullptr;
  sockaddr_storage peer_{};
  Part<&Socket::connect_completed> connect_{*this};
  Part<&Socket::receive_completed> receive_{*this};
  Part<&Socket::send_completed> send_{*this};
  Part<&Socket::writable_completed> writable_{*this};
  MemberTimer<Socket, &Socket::retry_receive> receive_retry_{*this};
  MemberTimer<Socket, &Socket::report_closed> closed_{*this};
  uint32_t sending_bytes_ = 0;
  bool multishot_ = false;
  bool more_to_receive_ = false;
  bool paused_ = false;
  bool awaited_ = false;  // the pending receive is await_readable()
  bool receive_ended_ = false;
  bool waiting_writable_ = false;
  bool closing_ = false;
};

}  // namespace weir::io
