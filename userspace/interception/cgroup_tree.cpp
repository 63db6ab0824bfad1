#include "interception/cgroup_tree.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace weir::interception {
namespace {

// Takes the text up to `separator` off the front of `rest`.
std::string_view take(std::string_view& rest, char separator) {
  size_t end = rest.find(separator);
  std::string_view field = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return field;
}

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// /proc/mounts writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view field) {
  std::string out;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size() && is_octal(field[i + 1]) && is_octal(field[i + 2]) &&
        is_octal(field[i + 3])) {
      out += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0'));
      i += 3;
    } else {
      out += field[i];
    }
  }
  return out;
}

// Of a v1 hierarchy's mount options, those that name it.
std::string controllers_of(std::string_view options) {
  static constexpr std::array<std::string_view, 13> kKnown = {"blkio",    "cpu",        "cpuacct", "cpuset", "devices",
                                                              "freezer",  "hugetlb",    "memory",  "misc",   "net_cls",
                                                              "net_prio", "perf_event", "pids"};
  std::string out;
  while (!options.empty()) {
    std::string_view option = take(options, ',');
    if (!option.starts_with("name=") && std::find(kKnown.begin(), kKnown.end(), option) == kKnown.end()) continue;
    if (!out.empty()) out += ',';
    out += option;
  }
  return out;
}

constexpr size_t kLongestUid = 128;

bool is_uid(std::string_view uid) {
  auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  };
  return !uid.empty() && uid.size() <= kLongestUid && std::all_of(uid.begin(), uid.end(), allowed);
}

std::string_view qos_of(std::string_view name) {
  for (std::string_view qos : {"besteffort", "burstable", "guaranteed"}) {
    if (name == qos) return qos;
    // systemd: the names of all folders above, joined by dashes.
    if (name.ends_with(".slice")) {
      std::string_view stem = name.substr(0, name.size() - 6);
      if (stem.ends_with(qos) && stem.substr(0, stem.size() - qos.size()).ends_with("kubepods-")) return qos;
    }
  }
  return {};
}

// `qos` is that of the folder above, empty directly below the root.
std::optional<std::string> uid_of_folder(std::string_view name, std::string_view qos) {
  if (name.ends_with(".slice")) {
    std::string_view stem = name.substr(0, name.size() - 6);
    size_t pod = stem.rfind("-pod");
    if (pod == std::string_view::npos) return std::nullopt;
    std::string above = "kubepods";
    if (!qos.empty()) above.append("-").append(qos);
    if (!stem.substr(0, pod).ends_with(above)) return std::nullopt;
    std::string uid(stem.substr(pod + 4));
    // A dash separates levels in a slice's name, so the kubelet writes the UID's dashes as underscores.
    std::replace(uid.begin(), uid.end(), '_', '-');
    if (!is_uid(uid)) return std::nullopt;
    return uid;
  }
  if (!name.starts_with("pod") || !is_uid(name.substr(3))) return std::nullopt;
  return std::string(name.substr(3));
}

// /proc files have no size: read to the end.
std::optional<std::string> read_text(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool is_folder(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

bool holds_pods(const std::string& root) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(root, ignored)) {
    std::string name = entry.path().filename();
    if (pod_uid_of(name)) return true;
    if (!may_hold_pods(name)) continue;
    for (const auto& inner : std::filesystem::directory_iterator(entry.path(), ignored)) {
      if (pod_uid_of(name + "/" + inner.path().filename().string())) return true;
    }
  }
  return false;
}

bool holds_this_process(const std::string& cgroup) {
  std::istringstream pids(read_text(cgroup + "/cgroup.procs").value_or(""));
  const std::string own = std::to_string(getpid());
  return std::find(std::istream_iterator<std::string>(pids), {}, own) != std::istream_iterator<std::string>();
}

// The folder of this process, by what the tree says of its processes: all folders are looked at.
std::optional<std::string> find_this_process(const std::string& mount) {
  if (holds_this_process(mount)) return mount;
  std::error_code ignored;
  for (std::filesystem::recursive_directory_iterator entry(mount, ignored), end; entry != end;
       entry.increment(ignored)) {
    if (entry->is_directory(ignored) && holds_this_process(entry->path())) return entry->path();
  }
  return std::nullopt;
}

std::string join(const std::string& mount, const std::string& below) {
  if (below == "/") return mount;
  return (mount == "/" ? "" : mount) + below;
}

// The v1 hierarchy to look for pods in: every runtime puts a pod's processes in all of them.
const CgroupMount* choose_v1(const std::vector<CgroupMount>& mounts) {
  for (std::string_view wanted : {"pids", "memory", "name=systemd"}) {
    for (const auto& mount : mounts) {
      if (!mount.v2 && mount.controllers == wanted) return &mount;
    }
  }
  return nullptr;
}

}  // namespace

std::vector<CgroupMount> parse_cgroup_mounts(std::string_view mounts) {
  std::vector<CgroupMount> out;
  while (!mounts.empty()) {
    std::string_view line = take(mounts, '\n');
    take(line, ' ');
    std::string_view path = take(line, ' ');
    std::string_view type = take(line, ' ');
    std::string_view options = take(line, ' ');
    if (path.empty()) continue;
    if (type == "cgroup2") out.push_back({unescape(path), true, ""});
    if (type == "cgroup") out.push_back({unescape(path), false, controllers_of(options)});
  }
  return out;
}

std::optional<std::string> parse_v2_cgroup(std::string_view cgroups) {
  while (!cgroups.empty()) {
    std::string_view line = take(cgroups, '\n');
    if (!line.starts_with("0::/")) continue;
    std::string_view path = line.substr(3);
    // Removed while the process lives on (a zombie's parent asks, or a namespace's root is gone).
    if (path.ends_with(" (deleted)")) path.remove_suffix(10);
    return std::string(path);
  }
  return std::nullopt;
}

const std::vector<std::string>& kubepods_candidates() {
  static const std::vector<std::string> candidates = {
      "/kubepods",
      "/kubepods.slice",
      // Kubelets with cgroupRoot: /kubelet, as kind's nodes have.
      "/kubelet/kubepods",
      "/kubelet.slice/kubelet-kubepods.slice",
  };
  return candidates;
}

std::optional<std::string> pod_uid_of(std::string_view below_root) {
  std::string_view first = take(below_root, '/');
  if (auto uid = uid_of_folder(first, {})) return uid;
  std::string_view qos = qos_of(first);
  if (qos.empty()) return std::nullopt;
  return uid_of_folder(take(below_root, '/'), qos);
}

bool may_hold_pods(std::string_view below_root) { return below_root.empty() || !qos_of(below_root).empty(); }

base::Result<CgroupTree> find_cgroup_tree(const std::string& proc) {
  auto text = read_text(proc + "/mounts");
  if (!text) return base::Error{"read " + proc + "/mounts: it can't be opened; is /proc mounted?"};
  std::vector<CgroupMount> mounts = parse_cgroup_mounts(*text);

  CgroupTree tree;
  for (const auto& mount : mounts) {
    if (!mount.v2) continue;
    // In a container the node's tree may be mounted beside the container's own: the one that holds pods counts.
    bool has_root = std::any_of(kubepods_candidates().begin(), kubepods_candidates().end(),
                                [&](const std::string& below) { return is_folder(join(mount.path, below)); });
    if (tree.v2_mount.empty() || has_root) tree.v2_mount = mount.path;
    if (has_root) break;
  }
  if (tree.v2_mount.empty()) {
    return base::Error{
        "no cgroup2 hierarchy is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup/unified), or start the node "
        "with systemd.unified_cgroup_hierarchy=1"};
  }

  std::vector<std::string> existing, with_pods;
  for (const auto& below : kubepods_candidates()) {
    std::string root = join(tree.v2_mount, below);
    tree.roots.push_back(root);
    if (!is_folder(root)) continue;
    existing.push_back(root);
    if (holds_pods(root)) with_pods.push_back(root);
  }
  bool pods_in_v1 = false;
  if (const CgroupMount* v1 = choose_v1(mounts)) {
    for (const auto& below : kubepods_candidates()) {
      std::string root = join(v1->path, below);
      tree.roots.push_back(root);
      pods_in_v1 = pods_in_v1 || holds_pods(root);
    }
  }

  // Attaching at the root sees every pod wherever it is; a kubepods folder is better (child programs run before the
  // parent's) if it is certain that all pods are in it.
  tree.pods_cgroup = tree.v2_mount;
  if (with_pods.size() == 1) tree.pods_cgroup = with_pods.front();
  if (with_pods.empty() && !pods_in_v1 && existing.size() == 1) tree.pods_cgroup = existing.front();

  // In a cgroup namespace, which is what a container has on a v2 host, the path is that below the namespace's root
  // ("/", or it climbs: "/../x"), not below the mount's. Only the mount's root is certain to hold us if the tree does
  // not tell.
  const std::string own = parse_v2_cgroup(read_text(proc + "/self/cgroup").value_or("")).value_or("/");
  const bool known = own != "/" && !own.starts_with("/..") && is_folder(join(tree.v2_mount, own));
  tree.agent_cgroup = known ? join(tree.v2_mount, own) : find_this_process(tree.v2_mount).value_or(tree.v2_mount);
  struct stat folder {};
  if (::stat(tree.agent_cgroup.c_str(), &folder) == 0) tree.agent_cgroup_id = folder.st_ino;
  return tree;
}

}  // namespace weir::interception
