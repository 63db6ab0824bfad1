#include "node.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "base/fd.h"

namespace weir::bpf_test {
namespace {

constexpr std::string_view kPrefix = "weir-bpf-test-";

// Ends what is still inside and removes the folders from the leaves up.
void remove_cgroup(const std::filesystem::path& cgroup) {
  std::error_code ignored;
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(cgroup, ignored))
    if (entry.is_directory(ignored)) folders.push_back(entry.path());
  for (const auto& folder : folders) remove_cgroup(folder);
  for (int attempt = 0; attempt < 100 && rmdir(cgroup.c_str()) != 0 && errno == EBUSY; ++attempt) {
    std::ifstream procs(cgroup / "cgroup.procs");
    for (pid_t pid; procs >> pid;)
      if (pid != getpid()) kill(pid, SIGKILL);
    usleep(10'000);
  }
}

// Folders are named prefix + pid + "-" + number; those of dead processes are leftovers.
void remove_leftovers() {
  std::error_code ignored;
  std::vector<std::filesystem::path> leftovers;
  for (const auto& entry : std::filesystem::directory_iterator(cgroup2_mount(), ignored)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    pid_t owner = std::atoi(name.c_str() + kPrefix.size());
    if (owner > 0 && kill(owner, 0) != 0) leftovers.push_back(entry.path());
  }
  for (const auto& leftover : leftovers) remove_cgroup(leftover);
}

std::string own_cgroup() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::")) return cgroup2_mount() + line.substr(3);
  return cgroup2_mount();
}

void make_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0755) != 0) throw std::runtime_error("mkdir " + path);
}

}  // namespace

std::string cgroup2_mount() {
  std::ifstream mounts("/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, path, type;
    words >> device >> path >> type;
    if (type == "cgroup2") return path;
  }
  return "";
}

std::string prepare_process() {
  if (geteuid() != 0) return "these tests load BPF programs: run them as root";
  if (cgroup2_mount().empty()) return "no cgroup v2 is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified";
  if (unshare(CLONE_NEWNS) != 0) return "unshare the mount namespace failed";
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return "making mounts private failed";
  if (mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) != 0) return "mounting bpffs at /sys/fs/bpf failed";
  remove_leftovers();
  return "";
}

Node::Node() {
  static int number = 0;
  std::string name = std::string(kPrefix) + std::to_string(getpid()) + "-" + std::to_string(++number);
  root_ = cgroup2_mount() + "/" + name;
  pods_cgroup_ = root_ + "/pods";
  agent_cgroup_ = root_ + "/agent";
  bpf_dir_ = "/sys/fs/bpf/" + name;
  for (const std::string& path : {root_, pods_cgroup_, agent_cgroup_}) make_directory(path);
  previous_cgroup_ = own_cgroup();
  join(agent_cgroup_, getpid());
}

Node::~Node() {
  if (auto removed = interception::Programs::uninstall(bpf_dir_); !removed)
    std::fprintf(stderr, "uninstall: %s\n", removed.error().message.c_str());
  join(previous_cgroup_, getpid());
  remove_cgroup(root_);
}

void Node::join(const std::string& cgroup, pid_t pid) {
  std::ofstream procs(cgroup + "/cgroup.procs");
  procs << pid << std::flush;
  if (!procs) throw std::runtime_error("join " + cgroup);
}

int Node::attached(const std::string& cgroup, int attach_type) {
  base::Fd fd(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::array<uint32_t, 64> ids{};
  uint32_t count = ids.size(), flags = 0;
  if (bpf_prog_query(fd.get(), static_cast<bpf_attach_type>(attach_type), 0, &flags, ids.data(), &count) != 0)
    return -1;
  return static_cast<int>(count);
}

}  // namespace weir::bpf_test
