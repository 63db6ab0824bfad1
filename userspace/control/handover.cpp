#include "control/handover.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <string_view>

namespace weir::control {
namespace {

// A packet each; the number is the protocol's version.
constexpr std::string_view kTakeOver = "take over 1", kLetGo = "let go 1";

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

base::Fd new_socket() { return base::Fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

bool say(const base::Fd& to, std::string_view what) {
  return send(to.get(), what.data(), what.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(what.size());
}

// The next packet; empty: there is none, or no more.
std::string hear(const base::Fd& from, bool* ended) {
  char packet[64];
  const ssize_t size = recv(from.get(), packet, sizeof packet, 0);
  *ended = size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
  return size > 0 ? std::string(packet, static_cast<size_t>(size)) : std::string();
}

}  // namespace

base::Result<Handover> Handover::open(const std::string& run_dir) {
  Handover handover(run_dir + "/handover.sock");
  const sockaddr_un address = address_of(handover.path_);
  if (handover.path_.size() >= sizeof address.sun_path)
    return base::Error{"the path is too long for a unix socket: " + handover.path_};
  base::Fd predecessor = new_socket();
  if (!predecessor) return base::system_error("socket", errno);
  // A file that an agent left when it was killed refuses; so does one whose agent has successors in plenty.
  if (connect(predecessor.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    handover.predecessor_ = std::move(predecessor);
  return handover;
}

Handover::~Handover() {
  if (!listener_ || successor_) return;
  // The name may be another agent's by now: of one that came after a successor that died.
  struct stat now {};
  if (::stat(path_.c_str(), &now) == 0 && now.st_ino == inode_) unlink(path_.c_str());
}

base::Result<void> Handover::take_over() {
  std::string silence;
  if (predecessor_) {
    bool ended = !say(predecessor_, kTakeOver);
    pollfd waiting{predecessor_.get(), POLLIN, 0};
    const auto patience = std::chrono::duration_cast<std::chrono::milliseconds>(kPatience);
    if (!ended && poll(&waiting, 1, static_cast<int>(patience.count())) == 1) {
      if (hear(predecessor_, &ended) != kLetGo) silence = "it answers in a way of its own";
    } else if (!ended) {
      silence = "it has not answered in time";
    }
    if (ended) predecessor_.reset();  // it has ended by itself
  }
  if (auto listening = listen(); !listening) return listening.error();
  if (!silence.empty()) return base::Error{silence};
  return {};
}

base::Result<void> Handover::listen() {
  listener_ = new_socket();
  if (!listener_) return base::system_error("socket", errno);
  unlink(path_.c_str());
  fchmod(listener_.get(), 0600);
  const sockaddr_un address = address_of(path_);
  if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener_.get(), 1) != 0)
    return base::system_error("listen on " + path_, errno);
  struct stat bound {};
  if (::stat(path_.c_str(), &bound) != 0) return base::system_error("look at " + path_, errno);
  inode_ = bound.st_ino;
  return {};
}

Handover::Event Handover::on_readable() {
  if (!successor_) {
    accept();
    return Event::none;
  }
  bool ended = false;
  const std::string heard = hear(successor_, &ended);
  if (heard == kTakeOver) return Event::superseded;
  if (!ended) return Event::none;
  successor_.reset();
  return Event::successor_gone;
}

void Handover::accept() {
  successor_ = base::Fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

bool Handover::has_successor() {
  if (!successor_ && listener_) accept();
  return static_cast<bool>(successor_);
}

void Handover::let_go() { say(successor_, kLetGo); }

}  // namespace weir::control
