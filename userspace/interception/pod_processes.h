// Finds a pod's network namespace through the processes in its cgroup folders.
// Processes come and go while it looks; what it returns is held by a descriptor
// and was the namespace of a process of the pod at that moment.
#pragma once

#include <sys/types.h>

#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/fd.h"
#include "base/result.h"
#include "interception/network_namespace.h"

namespace weir::interception {

// Tells namespaces apart for as long as somebody holds them.
struct NamespaceId {
  dev_t device = 0;
  ino_t inode = 0;
  auto operator<=>(const NamespaceId&) const = default;
};

struct PodNamespace {
  NamespaceId id;
  pid_t process = 0;  // one that is in it
  base::Fd fd;
};

struct PodProcesses {
  bool any = false;  // some process is there
  bool in_node_namespace =
      false;              // one is in the node's network namespace (a container that is being made, or hostNetwork)
  bool vanished = false;  // one ended while it was looked at
  int unreadable = 0;     // errno of a cgroup.procs that is there and could not be opened
  bool hidden = false;    // one is not visible in this PID namespace
  std::vector<PodNamespace> namespaces;  // that are not the node's, each once, in the order met
};

class PodProcessFinder {
 public:
  // `proc` is where /proc is mounted. The node's namespaces are those of the calling thread, of process 1, and, since
  // that one may be hidden or in another, the one that a pod's processes are started from.
  explicit PodProcessFinder(std::string proc);

  PodProcesses find(const std::set<std::string>& cgroup_folders) const;
  // Whether the process exists and is in that namespace: the cheap question about a pod that is known.
  bool is_in(pid_t process, const NamespaceId& id) const;

 private:
  void look_at(pid_t process, const std::vector<pid_t>& pod, PodProcesses& found) const;
  bool is_where_it_was_started(pid_t process, const NamespaceId& id, const std::vector<pid_t>& pod) const;
  pid_t parent_of(pid_t process) const;
  std::string netns_path(pid_t process) const;

  std::string proc_;
  std::set<NamespaceId> node_;
};

struct ChosenNamespace {
  NetworkNamespace netns;
  NamespaceId id;
  pid_t process = 0;
};

// The pod's own among the namespaces (at least one) of its processes: a process may have entered, or made, another.
// Where there are several, the one that has an address of the pod; else the first.
base::Result<ChosenNamespace> choose_namespace(const std::vector<PodNamespace>& found,
                                               std::span<const base::IpAddress> pod_ips);

}  // namespace weir::interception
