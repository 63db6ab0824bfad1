// For the tests of redirect: a diverted connection with both its ends, and the
// agent's part, which is to read and to say how much.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

#include "diversion.h"

namespace weir::bpf_test {

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// A pod whose connections may be redirected.
class Redirection : public Diversion {
 protected:
  struct Ends {
    base::Fd client, agent;
  };

  Redirection();
  // Every account must be closed once the sockets are.
  ~Redirection() override;

  Ends connect_to(const base::SocketAddress& service, int family = AF_INET) const;
  Ends connect() const { return connect_to(kService4); }
  // After the preface went through: redirected both ways.
  Ends connect_redirected() const;
};

// All of it; false if the socket takes no more.
bool send_all(const base::Fd& socket, std::string_view bytes);
// Exactly `size` bytes, or what came before the end or an error.
std::string receive(const base::Fd& socket, size_t size);
// What arrived by TCP; redirected bytes do not count.
uint64_t received_by_tcp(const base::Fd& socket);

// The stream that tests send: any part of it can be made, and checked, by its position.
class Pattern {
 public:
  // The next `size` bytes; valid until the next call.
  std::string_view next(size_t size);
  // Whether `bytes` are the next ones.
  bool matches(std::string_view bytes);
  uint64_t position() const { return position_; }

 private:
  std::string bytes_;
  uint64_t position_ = 0;
};

// Reads from the agent's end to its end, as the agent does, and checks the pattern behind the preface.
class CheckedReader {
 public:
  CheckedReader(const base::Fd& socket, const interception::Maps* maps);
  ~CheckedReader();  // shuts the socket down, unless it has come to the end
  // Waits for the end of the stream; what was wrong, or nothing. With the position.
  std::string finish();
  uint64_t position() const { return position_; }
  const base::Fd& socket() const { return socket_; }

 private:
  void run();
  const base::Fd& socket_;
  const interception::Maps* maps_;
  Pattern pattern_;
  std::atomic<uint64_t> position_{0};
  std::string wrong_;
  std::thread thread_;
};

}  // namespace weir::bpf_test
