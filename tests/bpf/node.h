// A node for one test: a pair of cgroups (pods, agent) and a directory of
// bpffs, all with names of their own, gone when the object is. Leftovers of a
// crashed run are removed at the start of the next.
#pragma once

#include <sys/types.h>

#include <string>

#include "interception/programs.h"

namespace weir::bpf_test {

// Gives this process a mount namespace with a bpffs of its own at /sys/fs/bpf, so that pins can't outlive it.
// Call before any thread starts. Returns an error for people.
std::string prepare_process();

std::string cgroup2_mount();

class Node {
 public:
  Node();
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const std::string& pods_cgroup() const { return pods_cgroup_; }
  const std::string& agent_cgroup() const { return agent_cgroup_; }
  const std::string& bpf_dir() const { return bpf_dir_; }
  // With redirect, whatever this kernel is.
  interception::ProgramOptions options() const { return {bpf_dir_, pods_cgroup_, agent_cgroup_, {true, "test"}}; }

  // Moves a process into a cgroup; a socket belongs to the cgroup in which its process was at socket().
  static void join(const std::string& cgroup, pid_t pid);
  // How many programs of a hook are attached to a cgroup.
  static int attached(const std::string& cgroup, int attach_type);

 private:
  std::string root_, pods_cgroup_, agent_cgroup_, bpf_dir_;
  std::string previous_cgroup_;  // of this process, which is in agent_cgroup_ as long as the node lives
};

}  // namespace weir::bpf_test
