// Typed access to the pinned BPF maps (bpf_abi.h). The agent gets them from
// Programs; weirctl opens the pins, also with the agent dead.
#pragma once

#include <sys/types.h>

#include <array>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "weir/bpf_abi.h"

namespace weir::interception {

weir_address to_abi(const base::SocketAddress& address);
base::SocketAddress from_abi(const weir_address& address);

// One live diverted connection, seen from the application's socket.
struct Flow {
  uint64_t netns_cookie = 0;
  base::SocketAddress source;       // the application's socket, as getsockname shows it there
  base::SocketAddress destination;  // what it dialled
  uint64_t diverted_ns = 0;         // CLOCK_MONOTONIC
  uint32_t mode = 0;                // enum weir_mode
  bool redirected = false;          // what the application sends goes past TCP
};

class Maps {
 public:
  // Opens the pins below `bpf_dir`/v<WEIR_ABI_VERSION>. Fails with a sentence that says what is missing.
  static base::Result<Maps> open(const std::string& bpf_dir);

  base::Result<void> set_service(const base::SocketAddress& vip, const weir_service& row);
  base::Result<void> remove_service(const base::SocketAddress& vip);
  base::Result<std::optional<weir_service>> service(const base::SocketAddress& vip) const;
  base::Result<std::vector<std::pair<base::SocketAddress, weir_service>>> services() const;

  // What was learned about a pod's connections to a service. Thread-safe.
  base::Result<void> set_verdict(uint64_t netns_cookie, const base::SocketAddress& vip, const weir_verdict& row) const;
  base::Result<void> remove_verdict(uint64_t netns_cookie, const base::SocketAddress& vip) const;
  base::Result<std::optional<weir_verdict>> verdict(uint64_t netns_cookie, const base::SocketAddress& vip) const;
  struct Verdict {
    uint64_t netns_cookie = 0;
    base::SocketAddress vip;
    weir_verdict row;
  };
  base::Result<std::vector<Verdict>> verdicts() const;

  base::Result<void> set_pod(uint64_t netns_cookie, const weir_pod& row);
  base::Result<void> remove_pod(uint64_t netns_cookie);
  // Its agent ends, the pod does not.
  base::Result<void> withdraw_pod(uint64_t netns_cookie);
  base::Result<std::optional<weir_pod>> pod(uint64_t netns_cookie) const;
  base::Result<std::vector<std::pair<uint64_t, weir_pod>>> pods() const;

  // The operator's brakes, of a pod by its netns cookie and of a service port; the node's is in config(). Only weirctl
  // sets them and takes them off. They go after the row that they are about, but not with withdraw_pod().
  struct Brakes {
    std::set<uint64_t> pods;
    std::set<base::SocketAddress> services;
  };
  base::Result<void> set_brake(uint64_t netns_cookie, bool on) { return set_brake(weir_brake{netns_cookie, {}}, on); }
  base::Result<void> set_brake(const base::SocketAddress& vip, bool on) {
    return set_brake(weir_brake{0, to_abi(vip)}, on);
  }
  base::Result<bool> brake(uint64_t netns_cookie) const { return brake(weir_brake{netns_cookie, {}}); }
  base::Result<bool> brake(const base::SocketAddress& vip) const { return brake(weir_brake{0, to_abi(vip)}); }
  base::Result<Brakes> brakes() const;

  base::Result<weir_heartbeat> heartbeat(uint16_t slot) const;
  // The array itself, to be mapped (heartbeats.h).
  int heartbeats_fd() const { return heartbeats_.get(); }

  base::Result<weir_config> config() const;
  base::Result<void> set_config(const weir_config& config);

  // Sums over the CPUs, indexed by enum weir_stat.
  base::Result<std::array<uint64_t, WEIR_STAT_MAX>> stats() const;
  // Live diverted connections: the applications' sockets, whether an agent lives or not.
  base::Result<std::vector<Flow>> flows() const;
  // Rows of the pending map: connections between SYN and accept. For leak checks.
  base::Result<uint64_t> pending() const;

  // Marks a socket of the agent (sk_storage by fd): a listener before its pod's row appears, an upstream socket
  // before its connect(). Thread-safe, callable from workers.
  base::Result<void> mark(int socket, weir_mark_kind kind, uint64_t generation) const;
  // Where an accepted connection was going; nullopt: it was not diverted. Thread-safe.
  std::optional<weir_original> original_destination(int accepted_socket) const;
  // Names the account of an accepted connection whose application sends past TCP, which its first message has
  // decided; nullopt: it sends by TCP. Thread-safe.
  std::optional<weir_connection> redirected(int accepted_socket) const;
  // What the agent sends on it does not go past TCP from now on; before its first send. False: the socket is in no
  // sockmap, so nothing could.
  bool keep_on_tcp(int accepted_socket) const;
  // The agent has read that many bytes of it since it began; due every WEIR_READ_REPORT bytes. Thread-safe.
  void report_read(const weir_connection& connection, uint64_t bytes) const;
  // Rows of the accounts map: connections that send past TCP. For leak checks.
  base::Result<uint64_t> accounts() const;

 private:
  Maps() = default;
  base::Result<void> set_brake(const weir_brake& key, bool on);
  base::Result<bool> brake(const weir_brake& key) const;

  base::Fd services_, pods_, heartbeats_, config_, stats_, pending_, original_, mark_, redirects_, accounts_, verdicts_,
      brakes_;
  std::string directory_;
};

}  // namespace weir::interception
