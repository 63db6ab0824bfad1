#include "inspect.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <stdexcept>

#include "base/fd.h"

namespace weir::bpf_test {

const std::vector<int> kPodHooks = {
    BPF_CGROUP_INET4_CONNECT,     BPF_CGROUP_INET6_CONNECT,     BPF_CGROUP_INET4_GETPEERNAME,
    BPF_CGROUP_INET6_GETPEERNAME, BPF_CGROUP_INET4_GETSOCKNAME, BPF_CGROUP_INET6_GETSOCKNAME,
    BPF_CGROUP_SOCK_OPS,
};

std::map<std::string, PinnedLink> links_in(const std::string& bpf_dir) {
  std::map<std::string, PinnedLink> links;
  for (const auto& entry : std::filesystem::directory_iterator(bpf_dir + "/v1/links")) {
    base::Fd link(bpf_obj_get(entry.path().c_str()));
    bpf_link_info info{};
    uint32_t size = sizeof info;
    if (link && bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0)
      links[entry.path().filename()] = {info.id, info.prog_id};
  }
  return links;
}

std::map<std::string, uint32_t> maps_in(const std::string& bpf_dir) {
  std::map<std::string, uint32_t> maps;
  for (const auto& entry : std::filesystem::directory_iterator(bpf_dir + "/v1/maps")) {
    base::Fd map(bpf_obj_get(entry.path().c_str()));
    bpf_map_info info{};
    uint32_t size = sizeof info;
    if (map && bpf_obj_get_info_by_fd(map.get(), &info, &size) == 0) maps[entry.path().filename()] = info.id;
  }
  return maps;
}

std::vector<std::string> names_of_attached(const std::string& cgroup, int attach_type) {
  base::Fd fd(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::array<uint32_t, 64> ids{};
  uint32_t count = ids.size(), flags = 0;
  std::vector<std::string> names;
  if (bpf_prog_query(fd.get(), static_cast<bpf_attach_type>(attach_type), 0, &flags, ids.data(), &count) != 0)
    return names;
  for (uint32_t i = 0; i < count; ++i) {
    base::Fd program(bpf_prog_get_fd_by_id(ids[i]));
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    if (program && bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0) names.push_back(info.name);
  }
  return names;
}

uint32_t redirect_program(const std::string& bpf_dir) {
  base::Fd programs(bpf_obj_get((bpf_dir + "/v1/maps/msg_programs").c_str()));
  uint32_t slot = 0, id = 0;
  return bpf_map_lookup_elem(programs.get(), &slot, &id) == 0 ? id : 0;
}

int64_t pending_count(const std::string& bpf_dir, uint64_t slot) {
  base::Fd counts(bpf_obj_get((bpf_dir + "/v1/maps/pending_counts").c_str()));
  const uint32_t key = static_cast<uint32_t>(slot);
  int64_t count = -1;
  return bpf_map_lookup_elem(counts.get(), &key, &count) == 0 ? count : -1;
}

void set_pending_count(const std::string& bpf_dir, uint64_t slot, int64_t count) {
  base::Fd counts(bpf_obj_get((bpf_dir + "/v1/maps/pending_counts").c_str()));
  const uint32_t key = static_cast<uint32_t>(slot);
  if (bpf_map_update_elem(counts.get(), &key, &count, BPF_ANY) != 0) throw std::runtime_error("set a count");
}

bool gone(const std::function<int()>& open_by_id) {
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (!base::Fd(open_by_id())) return true;
    usleep(10'000);
  }
  return false;
}

bool kernel_is_older_than(int major, int minor) {
  utsname name{};
  int has_major = 0, has_minor = 0;
  if (uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &has_major, &has_minor) != 2) return false;
  return has_major < major || (has_major == major && has_minor < minor);
}

std::string in_unprivileged_child(const std::function<std::string()>& body) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "pipe failed";
  pid_t child = fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> none{};
    if (syscall(SYS_capset, &header, none.data()) != 0) _exit(1);
    std::string result = body();
    ssize_t written = write(ends[1], result.data(), result.size());
    _exit(written == static_cast<ssize_t>(result.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string result;
  char chunk[512];
  for (ssize_t n; (n = read(ends[0], chunk, sizeof chunk)) > 0;) result.append(chunk, static_cast<size_t>(n));
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return result;
}

}  // namespace weir::bpf_test
