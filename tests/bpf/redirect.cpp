#include "redirect.h"

#include <linux/tcp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace weir::bpf_test {

Redirection::Redirection() {
  row_.flags |= WEIR_POD_REDIRECT;
  write_pod();
}

Redirection::~Redirection() { EXPECT_EQ(maps_.accounts().value(), 0u); }

Redirection::Ends Redirection::connect_to(const base::SocketAddress& service, int family) const {
  Ends ends;
  ends.client = pod_.socket(family);
  if (dial_without_blocking(ends.client, service) != 0) throw std::runtime_error("connect");
  Arrival arrived = arrival();
  if (arrived.where != Where::agent) throw std::runtime_error("not diverted");
  ends.agent = std::move(arrived.socket);
  return ends;
}

Redirection::Ends Redirection::connect_redirected() const {
  Ends ends = connect();
  if (!send_all(ends.client, kPreface) || receive(ends.agent, kPreface.size()) != kPreface ||
      !maps_.redirected(ends.agent.get()))
    throw std::runtime_error("not redirected");
  return ends;
}

bool send_all(const base::Fd& socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

std::string receive(const base::Fd& socket, size_t size) {
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t n = recv(socket.get(), bytes.data() + have, size - have, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    have += static_cast<size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

uint64_t received_by_tcp(const base::Fd& socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  getsockopt(socket.get(), IPPROTO_TCP, TCP_INFO, &info, &size);
  return info.tcpi_bytes_received;
}

std::string_view Pattern::next(size_t size) {
  bytes_.resize(size);
  for (size_t i = 0; i < size; ++i, ++position_)
    bytes_[i] = static_cast<char>((position_ * 0x9E3779B97F4A7C15ull) >> 56);
  return bytes_;
}

bool Pattern::matches(std::string_view bytes) { return next(bytes.size()) == bytes; }

CheckedReader::CheckedReader(const base::Fd& socket, const interception::Maps* maps)
    : socket_(socket), maps_(maps), thread_([this] { run(); }) {}

CheckedReader::~CheckedReader() {
  if (!thread_.joinable()) return;
  shutdown(socket_.get(), SHUT_RDWR);
  thread_.join();
}

std::string CheckedReader::finish() {
  thread_.join();
  return wrong_;
}

void CheckedReader::run() {
  if (receive(socket_, kPreface.size()) != kPreface) {
    wrong_ = "no preface";
    return;
  }
  const auto account = maps_ ? maps_->redirected(socket_.get()) : std::nullopt;
  uint64_t read = kPreface.size(), reported = 0;
  std::string chunk(16 * 1024, '\0');
  while (true) {
    const ssize_t n = recv(socket_.get(), chunk.data(), chunk.size(), 0);
    if (n == 0) return;
    if (n < 0 && errno == EAGAIN) continue;  // a wake-up for something else: see bpf/redirect.h
    if (n < 0) {
      wrong_ = std::string("recv: ") + std::strerror(errno) + " at " + std::to_string(position());
      return;
    }
    if (!pattern_.matches({chunk.data(), static_cast<size_t>(n)})) {
      wrong_ = "wrong bytes before " + std::to_string(position());
      return;
    }
    position_ = pattern_.position();
    read += static_cast<uint64_t>(n);
    if (account && read - reported >= WEIR_READ_REPORT) {
      maps_->report_read(*account, read);
      reported = read;
    }
  }
}

}  // namespace weir::bpf_test
