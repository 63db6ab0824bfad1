// Connections that begin in a pod: in its network namespace and its cgroup, without a process of its own there.
#pragma once

#include <cstdint>
#include <string>

namespace bench {

// Where calls go, and from where.
struct Target {
  uint32_t address = 0;  // network order
  uint16_t port = 0;     // network order
  int process = 0;       // one of the pod's; 0: from here
  bool mapped = false;   // dialled by an IPv6 socket, as those of dual-stack libraries do
};

// "ADDRESS:PORT" or "ADDRESS:PORT@PID", the address of IPv4, mapped ("[::ffff:ADDRESS]") or not; throws
// std::invalid_argument.
Target parse_target(const std::string& text);
std::string to_string(const Target& target);  // ADDRESS:PORT

// Moves this process into the pod's network namespace and cgroup, for the sockets it opens from now on.
// Throws std::system_error.
void enter(const Target& target);
// A connected socket that has never blocked, as those of gRPC's libraries. Throws std::system_error.
int dial(const Target& target);

}  // namespace bench
