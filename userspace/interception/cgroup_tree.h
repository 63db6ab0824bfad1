// Where pods are in the cgroup tree: the mounted hierarchies, the folders below
// which the kubelet puts its pods (cgroupfs and systemd drivers, v2 and hybrid
// hosts), and which pod a folder belongs to by its name. Parsing is pure; only
// find_cgroup_tree() looks at the machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace weir::interception {

struct CgroupMount {
  std::string path;
  bool v2 = false;
  std::string controllers;  // of a v1 hierarchy, as mounted: "pids", "cpu,cpuacct", "name=systemd"
  bool operator==(const CgroupMount&) const = default;
};

// The cgroup mounts in the text of /proc/mounts, in its order.
std::vector<CgroupMount> parse_cgroup_mounts(std::string_view mounts);

// The folder of the v2 hierarchy in the text of /proc/PID/cgroup ("/" for the root); nullopt if the line is absent.
std::optional<std::string> parse_v2_cgroup(std::string_view cgroups);

// Folders, relative to a hierarchy's root, that a kubelet may have been told to put its pods in.
const std::vector<std::string>& kubepods_candidates();

// The UID of the pod that a folder belongs to: `below_root` is its path below a kubepods root. Only the places where
// the kubelet puts pods count (directly below the root, or below a QoS folder); whatever a pod creates inside its own
// folder, under whatever name, belongs to that pod. nullopt: not (inside) a pod's folder.
std::optional<std::string> pod_uid_of(std::string_view below_root);
// Whether a pod's folder may appear directly below: the root itself (empty) or a QoS folder.
bool may_hold_pods(std::string_view below_root);

struct CgroupTree {
  std::string v2_mount;
  std::vector<std::string> roots;  // for EnrolmentOptions::cgroup_roots: all candidates, existing or not
  std::string pods_cgroup;         // for ProgramOptions: the v2 kubepods folder if pods appear there, else v2_mount
  std::string agent_cgroup;        // v2 folder of the calling process
  uint64_t agent_cgroup_id = 0;    // its number in the kernel, as sockets made there carry it
};

// Fails, with a sentence that says what to do, if no cgroup2 hierarchy is mounted.
base::Result<CgroupTree> find_cgroup_tree(const std::string& proc = "/proc");

}  // namespace weir::interception
