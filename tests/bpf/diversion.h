// The scene of most tests: the programs are attached, one pod is enrolled with
// the agent's listeners inside it, and behind the service address stands a plain
// server. Each test ends with a look at `pending`, which must be empty, and its counts.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>

#include "base/clock.h"
#include "pod.h"

namespace weir::bpf_test {

inline constexpr uint64_t kGeneration = 7;
inline constexpr uint16_t kListenerPort = 61000;
inline constexpr uint16_t kHeartbeat = 5;  // the worker's slot

// Where a connection arrived.
enum class Where { agent, plain, nowhere };

struct Arrival {
  Where where = Where::nowhere;
  base::Fd socket;
};

interception::Programs load_and_attach(const Node& node);

// The node that all tests share, and its loaded programs. Made once per process.
struct Installed {
  Node node;
  interception::Programs programs = load_and_attach(node);
};
Installed& installed();
void uninstall_shared();

// A listener of the agent inside the pod, marked as one.
base::Fd agent_listener(const Pod& pod, const interception::Maps& maps, const base::SocketAddress& at,
                        int backlog = 16);
// The pod's row as the agent writes it.
weir_pod enrolled_row();
// The last sign of life of the row's worker: without one, none that a test could outlive.
void beat(const interception::Maps& maps, base::Duration ago = -std::chrono::hours(1),
          uint64_t generation = kGeneration);
// Waits at most a second for a connection at one of the listeners and accepts it.
Arrival accept_one(std::initializer_list<const base::Fd*> agent, std::initializer_list<const base::Fd*> plain);

// One way to dial the service.
struct Dialling {
  const char* name;
  int family;  // of the application's socket
  const char* service_ip;
  const char* pod_ip;
  const char* loopback;
};
inline constexpr Dialling kDiallings[] = {
    {"v4", AF_INET, kServiceIp4, kPodIp4, "127.0.0.1"},
    {"v6", AF_INET6, kServiceIp6, kPodIp6, "::1"},
    {"v4_mapped", AF_INET6, kServiceIp4, kPodIp4, "127.0.0.1"},
};

class Diversion : public testing::Test {
 protected:
  Diversion();
  ~Diversion() override;

  Arrival arrival() const { return accept_one({&agent4_, &agent6_}, {&plain4_, &plain6_}); }
  void write_pod() { ASSERT_TRUE(maps_.set_pod(netns_.cookie(), row_).ok()); }
  void write_service(const base::SocketAddress& at, uint32_t mode, uint32_t flags = 0);
  // What was counted since the test began.
  uint64_t counted(weir_stat stat) const;

  static inline const base::SocketAddress kService4 = address(kServiceIp4, kServicePort);
  static inline const base::SocketAddress kService6 = address(kServiceIp6, kServicePort);

  interception::Maps& maps_;
  Pod pod_;
  interception::NetworkNamespace netns_;
  weir_pod row_ = enrolled_row();
  base::Fd agent4_, agent6_, plain4_, plain6_;

 private:
  std::array<uint64_t, WEIR_STAT_MAX> before_{};
};

}  // namespace weir::bpf_test
