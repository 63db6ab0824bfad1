#include "interception/programs.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/log.h"
#include "interception/libbpf_log.h"
#include "interception/pinned_link.h"
#include "weir.skel.h"

namespace weir::interception {
namespace {

constexpr size_t kLogLinesShown = 12;

struct CloseSkeleton {
  void operator()(weir_bpf* skeleton) const { weir_bpf::destroy(skeleton); }
};
using Skeleton = std::unique_ptr<weir_bpf, CloseSkeleton>;

std::string version_directory(const std::string& bpf_dir) { return bpf_dir + "/v" + std::to_string(WEIR_ABI_VERSION); }

bool has_magic(const std::string& path, long magic) {
  struct statfs fs {};
  return statfs(path.c_str(), &fs) == 0 && fs.f_type == magic;
}

std::string parent_of(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return std::filesystem::path(path).parent_path().string();
}

base::Result<void> require_bpffs(const std::string& bpf_dir) {
  std::string parent = parent_of(bpf_dir);
  if (has_magic(parent, BPF_FS_MAGIC)) return {};
  return base::Error{parent + " is not a BPF file system; mount it with: mount -t bpf bpf " + parent, ENODEV};
}

// Whoever may open the pins may divert every pod's connections, so the mode is set also on a directory that exists.
base::Result<void> make_private_directory(const std::string& path) {
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return base::system_error("make the directory " + path, errno);
  if (chmod(path.c_str(), 0700) != 0) return base::system_error("make " + path + " private", errno);
  return {};
}

// Of maps pinned by another agent only the layout counts: it must be the one of these programs.
bool same_layout(int pinned, const bpf_map* map) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(pinned, &info, &size) == 0 && info.type == bpf_map__type(map) &&
         info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
         info.max_entries == bpf_map__max_entries(map) && info.map_flags == bpf_map__map_flags(map);
}

// libbpf reuses what is pinned at the path and pins what it had to create.
base::Result<void> pin_maps(weir_bpf* skeleton, const std::string& directory) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton->obj) {
    if (bpf_map__is_internal(map)) continue;
    std::string path = directory + "/" + bpf_map__name(map);
    base::Fd pinned(bpf_obj_get(path.c_str()));
    if (pinned && !same_layout(pinned.get(), map)) {
      base::log::warn("{} has another layout than this version's; its rows are dropped", path);
      if (unlink(path.c_str()) != 0) return base::system_error("replace " + path, errno);
    }
    if (int error = bpf_map__set_pin_path(map, path.c_str())) return base::system_error("pin " + path, -error);
  }
  return {};
}

base::Result<void> make_directories(const std::string& bpf_dir) {
  const std::string version = version_directory(bpf_dir);
  for (const std::string& path : {bpf_dir, version, version + "/maps", version + "/links"})
    if (auto made = make_private_directory(path); !made) return made;
  return {};
}

base::Error load_error(int code, const LibbpfLog& log) {
  std::string message = base::system_error("load the BPF programs", code).message;
  if (code == EPERM || code == EACCES) message += " (needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON)";
  if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) message += " (this kernel has no BTF: CONFIG_DEBUG_INFO_BTF)";
  std::string lines = log.last_lines(kLogLinesShown);
  if (!lines.empty()) message += "; libbpf said:\n" + lines;
  return {message, code};
}

base::Result<Skeleton> load_skeleton(const std::string& directory, bool redirect) {
  LibbpfLog log;
  Skeleton skeleton(weir_bpf::open());
  if (!skeleton) return load_error(errno, log);
  skeleton->rodata->weir_redirect_enabled = redirect;
  for (bpf_program* program : {skeleton->progs.weir_msg, skeleton->progs.weir_redirect})
    bpf_program__set_autoload(program, redirect);
  if (auto pinned = pin_maps(skeleton.get(), directory + "/maps"); !pinned) return pinned.error();
  if (int error = weir_bpf::load(skeleton.get())) return load_error(-error, log);
  return skeleton;
}

// Sockets that were added under an earlier agent run the new program from here on, or none.
base::Result<void> fill_slot(int msg_programs, const bpf_program* program) {
  const uint32_t slot = 0;
  const int fd = program ? bpf_program__fd(program) : -1;
  const int failed =
      program ? bpf_map_update_elem(msg_programs, &slot, &fd, BPF_ANY) : bpf_map_delete_elem(msg_programs, &slot);
  if (failed && errno != ENOENT) return base::system_error("set the redirect program", errno);
  return {};
}

base::Result<void> attach_redirect(const weir_bpf& skeleton, const std::string& directory) {
  if (auto filled = fill_slot(bpf_map__fd(skeleton.maps.msg_programs), skeleton.progs.weir_redirect); !filled)
    return filled;
  return pin_sockets_link(skeleton.progs.weir_msg, skeleton.maps.sockets, directory + "/links/weir_msg");
}

// Loads with redirect if that is wanted and the kernel takes it, else without; `state` then says why.
base::Result<Skeleton> load_programs(const std::string& directory, RedirectState& state) {
  if (state.on) {
    auto skeleton = load_skeleton(directory, true);
    auto attached = skeleton ? attach_redirect(**skeleton, directory) : base::Result<void>(skeleton.error());
    if (attached) return skeleton;
    state = {false, "the kernel does not take it: " + attached.error().message};
  }
  auto skeleton = load_skeleton(directory, false);
  if (!skeleton) return skeleton;
  if (auto emptied = fill_slot(bpf_map__fd((*skeleton)->maps.msg_programs), nullptr); !emptied) return emptied.error();
  return skeleton;
}

uint32_t id_of(const bpf_map* map) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(bpf_map__fd(map), &info, &size) == 0 ? info.id : 0;
}

// The maps of the program behind a pinned link, by their ids; nullopt: there is no such link.
std::optional<std::set<uint32_t>> maps_used_at(const std::string& pin) {
  const base::Fd link(bpf_obj_get(pin.c_str()));
  bpf_link_info attached{};
  uint32_t size = sizeof attached;
  if (!link || bpf_obj_get_info_by_fd(link.get(), &attached, &size) != 0) return std::nullopt;
  const base::Fd program(bpf_prog_get_fd_by_id(attached.prog_id));
  std::array<uint32_t, 64> ids{};
  bpf_prog_info info{};
  info.map_ids = reinterpret_cast<uint64_t>(ids.data());
  info.nr_map_ids = ids.size();
  size = sizeof info;
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) return std::nullopt;
  return std::set<uint32_t>(ids.begin(), ids.begin() + std::min<size_t>(info.nr_map_ids, ids.size()));
}

// The counts hold as long as all who take rows out of `pending` keep them. A version that does not know them, or has
// another `pending`, left them as they were: they begin anew, while no program runs that uses them.
base::Result<void> renew_counts(const weir_bpf& skeleton, const std::string& directory) {
  const auto used = maps_used_at(directory + "/links/weir_sockops");
  const int counts = bpf_map__fd(skeleton.maps.pending_counts);
  if (!used || (used->contains(id_of(skeleton.maps.pending)) && used->contains(id_of(skeleton.maps.pending_counts))))
    return {};
  const int64_t none = 0;
  for (uint32_t slot = 0; slot <= WEIR_PENDING_SLOTS; ++slot)
    if (bpf_map_update_elem(counts, &slot, &none, BPF_ANY) != 0)
      return base::system_error("clear the BPF map pending_counts", errno);
  return {};
}

}  // namespace

struct Programs::Loaded {
  ProgramOptions options;
  RedirectState redirect;
  Skeleton skeleton;
  Maps maps;
};

Programs::Programs(std::unique_ptr<Loaded> loaded) : loaded_(std::move(loaded)) {}
Programs::Programs(Programs&&) noexcept = default;
Programs& Programs::operator=(Programs&&) noexcept = default;
Programs::~Programs() = default;

Maps& Programs::maps() { return loaded_->maps; }
const RedirectState& Programs::redirect() const { return loaded_->redirect; }

base::Result<Programs> Programs::load(const ProgramOptions& options) {
  if (auto mounted = require_bpffs(options.bpf_dir); !mounted) return mounted.error();
  if (auto made = make_directories(options.bpf_dir); !made) return made.error();

  const std::string version = version_directory(options.bpf_dir);
  RedirectState redirect = options.redirect;
  auto skeleton = load_programs(version, redirect);
  if (!skeleton) return skeleton.error();
  if (auto renewed = renew_counts(**skeleton, version); !renewed) return renewed.error();
  auto maps = Maps::open(options.bpf_dir);
  if (!maps) return maps.error();
  return Programs(std::make_unique<Loaded>(
      Loaded{options, std::move(redirect), std::move(skeleton).value(), std::move(maps).value()}));
}

base::Result<void> Programs::attach() {
  const ProgramOptions& options = loaded_->options;
  auto pods = Cgroup::open(options.pods_cgroup);
  if (!pods) return pods.error();
  std::string links = version_directory(options.bpf_dir) + "/links/";
  const auto& programs = loaded_->skeleton->progs;

  // No connection may be diverted that the other hooks don't see, so connect hooks elsewhere go first ...
  for (bpf_program* program : {programs.weir_connect4, programs.weir_connect6})
    if (auto removed = remove_link_elsewhere(program, *pods, links + bpf_program__name(program)); !removed)
      return removed;

  // The agent accepts in its own cgroup. Below the pods' one it is covered already.
  std::string agent_link = links + "weir_sockops_agent";
  if (options.agent_cgroup.empty() || is_below(options.agent_cgroup, options.pods_cgroup)) {
    if (auto removed = remove_link(agent_link); !removed) return removed;
  } else {
    auto agent = Cgroup::open(options.agent_cgroup);
    if (!agent) return agent.error();
    if (auto attached = pin_cgroup_link(programs.weir_sockops, *agent, agent_link); !attached) return attached;
  }
  if (auto attached = pin_iterator_link(programs.weir_flows, loaded_->skeleton->maps.original, links + "weir_flows");
      !attached)
    return attached;
  // ... and those here come last.
  for (bpf_program* program :
       {programs.weir_sockops, programs.weir_getpeername4, programs.weir_getpeername6, programs.weir_getsockname4,
        programs.weir_getsockname6, programs.weir_connect4, programs.weir_connect6})
    if (auto attached = pin_cgroup_link(program, *pods, links + bpf_program__name(program)); !attached) return attached;
  return {};
}

bool Programs::detached() const {
  const std::string links = version_directory(loaded_->options.bpf_dir) + "/links/";
  const auto& programs = loaded_->skeleton->progs;
  for (const bpf_program* program :
       {programs.weir_sockops, programs.weir_getpeername4, programs.weir_getpeername6, programs.weir_getsockname4,
        programs.weir_getsockname6, programs.weir_connect4, programs.weir_connect6})
    if (is_detached(links + bpf_program__name(program))) return true;
  return false;
}

base::Result<void> Programs::restore() {
  if (auto made = make_directories(loaded_->options.bpf_dir); !made) return made;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, loaded_->skeleton->obj) {
    const char* pin = bpf_map__pin_path(map);
    if (!pin || access(pin, F_OK) == 0) continue;
    if (bpf_obj_pin(bpf_map__fd(map), pin) != 0) return base::system_error("pin " + std::string(pin), errno);
  }
  if (loaded_->redirect.on)
    if (auto attached = attach_redirect(*loaded_->skeleton, version_directory(loaded_->options.bpf_dir)); !attached)
      return attached;
  return attach();
}

base::Result<void> Programs::uninstall(const std::string& bpf_dir) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::exists(bpf_dir, error)) return {};
  if (!has_magic(bpf_dir, BPF_FS_MAGIC))
    return base::Error{bpf_dir + " is not on a BPF file system; nothing was removed", EINVAL};
  std::vector<std::string> pins, slots;
  for (fs::recursive_directory_iterator entry(bpf_dir, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().parent_path().filename() == "links") pins.push_back(entry->path().string());
    if (entry->path().filename() == "msg_programs") slots.push_back(entry->path().string());
  }
  if (error) return base::Error{"list " + bpf_dir + ": " + error.message(), error.value()};
  // Nothing may be diverted any more before the other hooks go: weir_connect* sorts first.
  std::sort(pins.begin(), pins.end());
  for (const std::string& pin : pins)
    if (auto removed = remove_link(pin); !removed) return removed;
  // Where the sk_msg program belongs to the map, that keeps itself alive by what stands in the slot.
  for (const std::string& slot : slots)
    if (base::Fd map(bpf_obj_get(slot.c_str())); map)
      if (auto emptied = fill_slot(map.get(), nullptr); !emptied) return emptied;
  fs::remove_all(bpf_dir, error);
  if (error) return base::Error{"remove " + bpf_dir + ": " + error.message(), error.value()};
  return {};
}

}  // namespace weir::interception
