// Verdicts: what a pod's connections to ports that declare nothing turned out to be. Several in a row that are not
// HTTP/2, and the BPF programs let the next ones pass by the agent for a while.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>

#include "base/address.h"
#include "base/clock.h"

namespace weir::proxy {

struct LearningOptions {
  uint32_t after = 3;                                  // connections in a row; 0: nothing is learned
  base::Duration lifetime = std::chrono::seconds(60);  // of a verdict, from the last connection that bore it out
  uint32_t sample_every = 64;                          // connections, of which one goes through the agent meanwhile
};

// Of one pod. Lives on its worker.
class Verdicts {
 public:
  // Tells the BPF programs, by the pod's netns cookie.
  struct Rows {
    std::function<void(uint64_t netns_cookie, const base::SocketAddress& vip, base::Instant expires)> learn;
    std::function<void(uint64_t netns_cookie, const base::SocketAddress& vip)> forget;
  };
  Verdicts(const LearningOptions& options, const Rows& rows, uint64_t netns_cookie)
      : options_(options), rows_(rows), netns_cookie_(netns_cookie) {}

  // A connection to `vip`, a port of `service` that learns, was not HTTP/2.
  void opaque(const base::SocketAddress& vip, const std::string& service, base::Instant now);
  // It was: whatever was learned is wrong.
  void http2(const base::SocketAddress& vip);
  // Whether one that goes through the agent is to have a source port apart (io::Socket::bind_apart): others pass by,
  // did a while ago, or will soon. Such a port is nobody else's, for whatever destination, also while it is in
  // TIME_WAIT: a minute brings true kMostApart times at most, so that enough of a pod's 28,232 are left.
  static constexpr uint32_t kMostApart = 4096;
  bool sets_apart(const base::SocketAddress& vip, const std::string& service, base::Instant now);

 private:
  struct Row {
    std::string service;  // what is known of an address does not pass to the next Service that has it
    uint32_t connections = 0;
    base::Instant last{};
  };
  const LearningOptions& options_;
  const Rows& rows_;
  const uint64_t netns_cookie_;
  std::unordered_map<base::SocketAddress, Row> in_a_row_;
  base::Instant minute_{};  // its begin
  uint32_t apart_ = 0;      // in it
};

}  // namespace weir::proxy
