#include "admin/probe_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>

#include "admin/handlers.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/log.h"

namespace weir::admin {
namespace {

using base::Instant;

constexpr size_t kMostConnections = 128;
constexpr size_t kLargestRequest = 8 * 1024;
constexpr int kMostAccepts = 64;  // in a turn, so that those that are connected get theirs
constexpr auto kRequestTime = std::chrono::seconds(2);
constexpr auto kAnswerTime = std::chrono::seconds(10);  // Prometheus waits no longer by default
constexpr auto kMetricsAge = std::chrono::seconds(1);
constexpr auto kOutOfDescriptors = std::chrono::milliseconds(50);

// "127.0.0.1:15020", "[::]:15020", ":15020".
std::optional<base::SocketAddress> parse_address(const std::string& text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  std::string host = text.substr(0, colon);
  if (host.empty()) host = "0.0.0.0";
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  base::SocketAddress address;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, address.port);
  const auto ip = base::IpAddress::parse(host);
  if (!ip || error != std::errc() || stop != end) return std::nullopt;
  address.ip = *ip;
  return address;
}

base::Result<base::Fd> listen_on(const base::SocketAddress& address) {
  sockaddr_storage storage{};
  const socklen_t size = address.to(storage);
  base::Fd listener(socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener) return base::system_error("socket", errno);
  // Not SO_REUSEPORT: two agents must not share a port unknowingly.
  const int on = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 ||
      ::listen(listener.get(), SOMAXCONN) != 0)
    return base::system_error("listen on " + address.to_string() + " for metrics and probes", errno);
  return listener;
}

std::shared_ptr<const std::string> message(const ProbeAnswer& answer) {
  const std::map<int, const char*> reasons = {
      {200, "OK"}, {400, "Bad Request"}, {404, "Not Found"}, {405, "Method Not Allowed"}, {503, "Service Unavailable"}};
  return std::make_shared<const std::string>(
      "HTTP/1.1 " + std::to_string(answer.status) + " " + reasons.at(answer.status) +
      "\r\nConnection: close\r\nContent-Type: " + answer.type +
      "\r\nContent-Length: " + std::to_string(answer.body.size()) + "\r\n\r\n" + answer.body);
}

std::shared_ptr<const std::string> refusal(int status, const char* why) { return message({status, "text/plain", why}); }

void notify(const base::Fd& event) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(event.get(), &one, sizeof one);
}

}  // namespace

struct ProbeServer::Connection {
  base::Fd socket;
  base::IpAddress peer;
  Instant deadline;
  std::string request = {};
  std::shared_ptr<const std::string> answer = {};
  size_t sent = 0;
  bool wants_metrics = false, ended = false;

  // Of the socket's buffer as much as it takes.
  void send() {
    while (sent < answer->size()) {
      const ssize_t n = ::send(socket.get(), answer->data() + sent, answer->size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno == EAGAIN) return;
      if (n < 0) break;
      sent += static_cast<size_t>(n);
    }
    ended = true;
  }

  void reply(std::shared_ptr<const std::string> with, Instant now) {
    answer = std::move(with);
    wants_metrics = false;
    deadline = now + kAnswerTime;
    send();
  }
};

base::Result<std::unique_ptr<ProbeServer>> ProbeServer::start(const std::string& address, const Sources& sources) {
  const auto parsed = parse_address(address);
  if (!parsed) return base::Error{"the metrics address '" + address + "' is not IP:port"};
  if (parsed->port == 0) return std::unique_ptr<ProbeServer>();
  auto listener = listen_on(*parsed);
  if (!listener) return listener.error();
  base::Fd stop(eventfd(0, EFD_CLOEXEC)), rendered(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop || !rendered) return base::system_error("eventfd", errno);
  return std::unique_ptr<ProbeServer>(
      new ProbeServer(std::move(*listener), std::move(stop), std::move(rendered), sources));
}

ProbeServer::ProbeServer(base::Fd listener, base::Fd stop, base::Fd rendered, const Sources& sources)
    : listener_(std::move(listener)),
      stop_(std::move(stop)),
      rendered_(std::move(rendered)),
      sources_(sources),
      thread_([this] { run(); }) {}

ProbeServer::~ProbeServer() {
  notify(stop_);
  thread_.join();
}

void ProbeServer::run() {
  std::vector<pollfd> fds;
  while (true) {
    fds.assign({{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}, {rendered_.get(), POLLIN, 0}});
    const size_t first = fds.size();
    std::optional<Instant> next;
    for (const Connection& connection : connections_) {
      fds.push_back({connection.socket.get(), static_cast<short>(connection.answer ? POLLOUT : POLLIN), 0});
      // Who waits for this agent is not late, and has nothing to be polled for.
      if (connection.wants_metrics)
        fds.back().fd = -1;
      else if (!next || connection.deadline < *next)
        next = connection.deadline;
    }
    int wait = -1;
    if (next)
      wait = static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(
                                  std::max<base::Duration>(*next - base::MonotonicClock::now(), {}))
                                  .count());
    poll(fds.data(), fds.size(), wait);
    if (fds[0].revents != 0) return;
    const Instant now = base::MonotonicClock::now();
    for (size_t i = 0; i < connections_.size(); ++i) {
      if (fds[i + first].revents == 0) continue;
      connections_[i].answer ? connections_[i].send() : receive(connections_[i], now);
    }
    if (fds[2].revents != 0) answer_metrics(now);
    if (fds[1].revents != 0) accept(now);
    remove_late(now);
  }
}

void ProbeServer::accept(Instant now) {
  for (int i = 0; i < kMostAccepts; ++i) {
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    base::Fd socket(accept4(listener_.get(), reinterpret_cast<sockaddr*>(&from), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
      if (connections_.empty()) std::this_thread::sleep_for(kOutOfDescriptors);
      return shed();
    }
    if (!socket) return;
    connections_.push_back({std::move(socket), base::SocketAddress::from(from).ip, now + kRequestTime});
    // A probe comes in one packet, mostly with the end of its handshake: it is answered before anybody loses his place.
    receive(connections_.back(), now);
    if (connections_.back().ended) connections_.pop_back();
    if (connections_.size() > kMostConnections) shed();
  }
}

// The oldest connection of the address that has most of them goes.
void ProbeServer::shed() {
  std::map<base::IpAddress, size_t> counts;
  for (const Connection& connection : connections_) ++counts[connection.peer];
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end()) return;
  connections_.erase(std::find_if(connections_.begin(), connections_.end(),
                                  [&](const Connection& connection) { return connection.peer == most->first; }));
  ++sources_.port->crowded;
}

void ProbeServer::receive(Connection& connection, Instant now) {
  char bytes[2048];
  const ssize_t n = recv(connection.socket.get(), bytes, sizeof bytes, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    connection.ended = true;
    return;
  }
  std::string& request = connection.request;
  request.append(bytes, static_cast<size_t>(n));
  if (request.find("\r\n\r\n") == std::string::npos && request.find("\n\n") == std::string::npos) {
    if (request.size() <= kLargestRequest) return;
    ++sources_.port->malformed;
    return connection.reply(refusal(400, "the request is too large\n"), now);
  }
  // "GET PATH HTTP/1.1"; the header says nothing that matters here.
  const std::string_view line = std::string_view(request).substr(0, request.find_first_of("\r\n"));
  const size_t first = line.find(' '), second = line.find(' ', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos ||
      !line.substr(second + 1).starts_with("HTTP/1.")) {
    ++sources_.port->malformed;
    return connection.reply(refusal(400, "this is not HTTP/1\n"), now);
  }
  if (line.substr(0, first) != "GET") return connection.reply(refusal(405, "only GET\n"), now);
  std::string_view path = line.substr(first + 1, second - first - 1);
  path = path.substr(0, path.find('?'));
  if (path == admin_api::kMetrics) {
    // One who has not taken what was rendered last is not to make the next one take as much memory again.
    const bool is_being_sent = metrics_.use_count() > 1 && now - rendered_at_ < kMetricsAge;
    if (is_being_sent) return connection.reply(metrics_, now);
    if (!begin_metrics(now)) return connection.reply(refusal(503, "there is no thread to render metrics\n"), now);
    connection.wants_metrics = true;
    return;
  }
  const auto answer = answer_probe(sources_, path);
  connection.reply(answer ? message(*answer) : refusal(404, "/healthz, /readyz and /metrics are what there is\n"), now);
}

bool ProbeServer::begin_metrics(Instant now) {
  if (rendering_.valid()) return true;
  try {
    rendering_ = std::async(std::launch::async, [this] {
      Message made = message(*answer_probe(sources_, admin_api::kMetrics));
      notify(rendered_);
      return made;
    });
  } catch (const std::system_error& none) {  // a limit on threads
    base::log::warn("metrics are not rendered: {}", none.what());
    return false;
  }
  rendered_at_ = now;
  return true;
}

void ProbeServer::answer_metrics(Instant now) {
  uint64_t count = 0;
  if (read(rendered_.get(), &count, sizeof count) != sizeof count) return;
  metrics_ = rendering_.get();
  for (Connection& connection : connections_)
    if (connection.wants_metrics) connection.reply(metrics_, now);
}

void ProbeServer::remove_late(Instant now) {
  std::erase_if(connections_, [&](const Connection& connection) {
    const bool late = !connection.ended && !connection.wants_metrics && connection.deadline <= now;
    if (late) ++sources_.port->slow;
    return connection.ended || late;
  });
}

}  // namespace weir::admin
