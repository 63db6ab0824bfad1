#include "interception/pinned_link.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <string_view>

namespace weir::interception {
namespace {

constexpr uint32_t kBefore = 1u << 3;      // BPF_F_BEFORE, for cgroups since 6.17; newer than our kernel headers
constexpr uint32_t kLinkTypeSockmap = 14;  // BPF_LINK_TYPE_SOCKMAP, since 6.10; likewise

std::optional<bpf_link_info> info_of(int link) {
  bpf_link_info info{};
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(link, &info, &size) != 0) return std::nullopt;
  return info;
}

// The kernel keeps the first 15 characters of a program's name.
bool runs(int link, const bpf_program* program) {
  auto info = info_of(link);
  if (!info) return false;
  base::Fd running(bpf_prog_get_fd_by_id(info->prog_id));
  bpf_prog_info description{};
  uint32_t size = sizeof description;
  return running && bpf_obj_get_info_by_fd(running.get(), &description, &size) == 0 &&
         std::string_view(bpf_program__name(program)).substr(0, BPF_OBJ_NAME_LEN - 1) == description.name;
}

// Whether the pin holds a link of the same program (the kernel itself would take connect6 for connect4) whose target
// `is_same` accepts. A link whose cgroup was removed has no target any more.
template <class SameTarget>
base::Fd open_link(const std::string& pin, const bpf_program* program, SameTarget is_same) {
  base::Fd link(bpf_obj_get(pin.c_str()));
  if (!link) return link;
  auto info = info_of(link.get());
  if (!info || !is_same(*info) || !runs(link.get(), program)) return base::Fd();
  return link;
}

base::Fd open_cgroup_link(const std::string& pin, const bpf_program* program, const Cgroup& cgroup) {
  return open_link(pin, program, [&](const bpf_link_info& info) {
    return info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id == cgroup.id() &&
           info.cgroup.attach_type == static_cast<uint32_t>(bpf_program__expected_attach_type(program));
  });
}

uint32_t id_of(const bpf_map* map) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(bpf_map__fd(map), &info, &size) == 0 ? info.id : 0;
}

// bpf_link_info.sockmap, whose first field is the map's id, stands where .netns does.
uint32_t sockmap_of(const bpf_link_info& info) { return info.netns.netns_ino; }

bool update_in_place(const base::Fd& link, const bpf_program* program) {
  return link && bpf_link_update(link.get(), bpf_program__fd(program), nullptr) == 0;
}

base::Result<void> pin_link(int link, const std::string& pin) {
  if (bpf_obj_pin(link, pin.c_str()) != 0) return base::system_error("pin the BPF link " + pin, errno);
  return {};
}

bool is_connect(bpf_attach_type type) { return type == BPF_CGROUP_INET4_CONNECT || type == BPF_CGROUP_INET6_CONNECT; }

// Whether programs other than weir's stand at this hook of this very cgroup. (Those of parents run after ours.)
bool has_strangers(int cgroup, bpf_attach_type type) {
  std::array<uint32_t, 64> ids{};
  uint32_t count = ids.size(), flags = 0;
  if (bpf_prog_query(cgroup, type, 0, &flags, ids.data(), &count) != 0) return false;
  for (uint32_t i = 0; i < count; ++i) {
    base::Fd program(bpf_prog_get_fd_by_id(ids[i]));
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) continue;
    if (!std::string_view(info.name).starts_with("weir_")) return true;
  }
  return false;
}

std::string canonical(const std::string& path) {
  std::error_code error;
  auto result = std::filesystem::weakly_canonical(path, error);
  return error ? path : result.string();
}

}  // namespace

base::Result<Cgroup> Cgroup::open(const std::string& path) {
  base::Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return base::system_error("open the cgroup " + path, errno);
  struct statfs fs {};
  if (fstatfs(fd.get(), &fs) != 0 || fs.f_type != CGROUP2_SUPER_MAGIC)
    return base::Error{path + " is not a cgroup v2 folder", EINVAL};
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return base::system_error("read the cgroup " + path, errno);
  return Cgroup(std::move(fd), status.st_ino, path);  // on 64-bit kernels the inode number is the cgroup's id
}

bool is_below(const std::string& path, const std::string& ancestor) {
  std::string below = canonical(path) + "/", above = canonical(ancestor);
  if (!above.ends_with('/')) above += '/';
  return below.starts_with(above);
}

base::Result<void> pin_cgroup_link(bpf_program* program, const Cgroup& cgroup, const std::string& pin) {
  bpf_attach_type type = bpf_program__expected_attach_type(program);
  if (update_in_place(open_cgroup_link(pin, program, cgroup), program)) return {};
  if (auto removed = remove_link(pin); !removed) return removed;
  std::string what = std::string("attach ") + bpf_program__name(program) + " to " + cgroup.path();
  bool strangers = is_connect(type) && has_strangers(cgroup.fd(), type);
  bpf_link_create_opts options{};
  options.sz = sizeof options;
  options.flags = strangers ? kBefore : 0;
  base::Fd link(bpf_link_create(bpf_program__fd(program), cgroup.fd(), type, &options));
  if (!link && strangers && errno == EINVAL)
    return base::Error{what +
                           ": another product's connect programs are attached there and would run first (a socket "
                           "load balancer hides service addresses); this kernel cannot order them (since 6.17)",
                       EINVAL};
  if (!link && errno == EPERM)
    return base::Error{what +
                           ": not permitted (needs CAP_BPF and CAP_NET_ADMIN, and no program that was attached "
                           "exclusively there or above)",
                       EPERM};
  if (!link) return base::system_error(what, errno);
  return pin_link(link.get(), pin);
}

base::Result<void> pin_iterator_link(bpf_program* program, const bpf_map* map, const std::string& pin) {
  auto existing = open_link(pin, program, [id = id_of(map)](const bpf_link_info& info) {
    return info.type == BPF_LINK_TYPE_ITER && info.iter.map.map_id == id;
  });
  if (update_in_place(existing, program)) return {};
  if (auto removed = remove_link(pin); !removed) return removed;
  bpf_iter_link_info target{};
  target.map.map_fd = static_cast<uint32_t>(bpf_map__fd(map));
  bpf_link_create_opts options{};
  options.sz = sizeof options;
  options.iter_info = &target;
  options.iter_info_len = sizeof target;
  base::Fd link(bpf_link_create(bpf_program__fd(program), 0, BPF_TRACE_ITER, &options));
  if (!link) return base::system_error(std::string("attach ") + bpf_program__name(program), errno);
  return pin_link(link.get(), pin);
}

base::Result<void> pin_sockets_link(bpf_program* program, const bpf_map* sockets, const std::string& pin) {
  auto existing = open_link(pin, program, [id = id_of(sockets)](const bpf_link_info& info) {
    return info.type == kLinkTypeSockmap && sockmap_of(info) == id;
  });
  if (update_in_place(existing, program)) return {};
  if (auto removed = remove_link(pin); !removed) return removed;
  const int program_fd = bpf_program__fd(program), map_fd = bpf_map__fd(sockets);
  base::Fd link(bpf_link_create(program_fd, map_fd, BPF_SK_MSG_VERDICT, nullptr));
  if (link) return pin_link(link.get(), pin);
  if (errno == EINVAL && bpf_prog_attach(program_fd, map_fd, BPF_SK_MSG_VERDICT, 0) == 0) return {};
  return base::system_error(std::string("attach ") + bpf_program__name(program), errno);
}

base::Result<void> remove_link_elsewhere(const bpf_program* program, const Cgroup& cgroup, const std::string& pin) {
  if (open_cgroup_link(pin, program, cgroup)) return {};
  return remove_link(pin);
}

bool is_detached(const std::string& pin) {
  const base::Fd link(bpf_obj_get(pin.c_str()));
  if (!link) return errno == ENOENT;
  const auto info = info_of(link.get());
  return info && info->type == BPF_LINK_TYPE_CGROUP && info->cgroup.cgroup_id == 0;
}

base::Result<void> remove_link(const std::string& pin) {
  base::Fd link(bpf_obj_get(pin.c_str()));
  if (!link && errno == ENOENT) return {};
  // Iterators have nothing to detach from, and what is not a link only needs its pin removed.
  auto info = link ? info_of(link.get()) : std::nullopt;
  const bool attached = info && (info->type == BPF_LINK_TYPE_CGROUP || info->type == kLinkTypeSockmap);
  if (attached && bpf_link_detach(link.get()) != 0) return base::system_error("detach the BPF link " + pin, errno);
  if (unlink(pin.c_str()) != 0 && errno != ENOENT) return base::system_error("remove " + pin, errno);
  return {};
}

}  // namespace weir::interception
