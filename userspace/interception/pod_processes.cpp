#include "interception/pod_processes.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <optional>

namespace weir::interception {
namespace {

// A pod with more processes or namespaces than these is judged by the first of them.
constexpr size_t kProcessesLookedAt = 1024;
constexpr size_t kNamespacesKept = 16;

std::optional<NamespaceId> namespace_at(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return NamespaceId{info.st_dev, info.st_ino};
}

bool has_address(const NetworkNamespace& netns, const base::IpAddress& ip) {
  sockaddr_storage raw{};
  socklen_t size = base::SocketAddress{ip, 0}.to(raw);
  auto socket = netns.tcp_socket(raw.ss_family);
  return socket && bind(socket->get(), reinterpret_cast<sockaddr*>(&raw), size) == 0;
}

}  // namespace

PodProcessFinder::PodProcessFinder(std::string proc) : proc_(std::move(proc)) {
  for (const auto& path : {std::string("/proc/thread-self/ns/net"), netns_path(1)}) {
    if (auto id = namespace_at(path)) node_.insert(*id);
  }
}

std::string PodProcessFinder::netns_path(pid_t process) const {
  return proc_ + "/" + std::to_string(process) + "/ns/net";
}

bool PodProcessFinder::is_in(pid_t process, const NamespaceId& id) const {
  return namespace_at(netns_path(process)) == id;
}

// 0 if the process is gone, or its parent not visible.
pid_t PodProcessFinder::parent_of(pid_t process) const {
  std::ifstream file(proc_ + "/" + std::to_string(process) + "/stat");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  // The name is in brackets, and may have any in it.
  const size_t end_of_name = text.rfind(')');
  int parent = 0;
  if (end_of_name == std::string::npos || std::sscanf(text.c_str() + end_of_name, ") %*c %d", &parent) != 1) return 0;
  return parent;
}

// A runtime's process is in the pod's cgroup before it is in the pod's namespace: until then it is where the one
// outside the pod is that started it.
bool PodProcessFinder::is_where_it_was_started(pid_t process, const NamespaceId& id,
                                               const std::vector<pid_t>& pod) const {
  for (size_t steps = 0; steps <= pod.size(); ++steps) {
    process = parent_of(process);
    if (process == 0 || !is_in(process, id)) return false;
    if (std::find(pod.begin(), pod.end(), process) == pod.end()) return true;
  }
  return false;
}

void PodProcessFinder::look_at(pid_t process, const std::vector<pid_t>& pod, PodProcesses& found) const {
  found.any = true;
  if (process == 0) {
    found.hidden = true;
    return;
  }
  auto is_known = [&](const NamespaceId& id) {
    bool of_node = node_.contains(id);
    found.in_node_namespace |= of_node;
    return of_node ||
           std::any_of(found.namespaces.begin(), found.namespaces.end(), [&](const auto& n) { return n.id == id; });
  };
  std::string path = netns_path(process);
  auto id = namespace_at(path);
  if (id && (is_known(*id) || found.namespaces.size() == kNamespacesKept)) return;
  base::Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) {
    found.vanished = true;
    return;
  }
  // The process may have changed its namespace since the first look: what was opened is what counts.
  NamespaceId opened{info.st_dev, info.st_ino};
  if (is_known(opened)) return;
  if (is_where_it_was_started(process, opened, pod)) {
    found.in_node_namespace = true;
    return;
  }
  found.namespaces.push_back({opened, process, std::move(fd)});
}

PodProcesses PodProcessFinder::find(const std::set<std::string>& cgroup_folders) const {
  std::vector<pid_t> pod;
  int unreadable = 0;
  for (const auto& folder : cgroup_folders) {
    std::ifstream processes(folder + "/cgroup.procs");
    // ENODEV: the cgroup was removed between the look-up of the file and its being opened.
    if (!processes && errno != ENOENT && errno != ENODEV) unreadable = errno;
    for (pid_t process = 0; pod.size() < kProcessesLookedAt && processes >> process;) pod.push_back(process);
  }
  PodProcesses found;
  found.unreadable = unreadable;
  for (pid_t process : pod) look_at(process, pod, found);
  return found;
}

base::Result<ChosenNamespace> choose_namespace(const std::vector<PodNamespace>& found,
                                               std::span<const base::IpAddress> pod_ips) {
  std::optional<ChosenNamespace> first;
  for (const auto& candidate : found) {
    auto netns = NetworkNamespace::open(("/proc/self/fd/" + std::to_string(candidate.fd.get())).c_str());
    if (!netns) return netns.error();
    ChosenNamespace choice{std::move(netns.value()), candidate.id, candidate.process};
    bool is_certain = found.size() == 1 || std::any_of(pod_ips.begin(), pod_ips.end(),
                                                       [&](const auto& ip) { return has_address(choice.netns, ip); });
    if (is_certain) return choice;
    if (!first) first = std::move(choice);
  }
  return std::move(*first);
}

}  // namespace weir::interception
