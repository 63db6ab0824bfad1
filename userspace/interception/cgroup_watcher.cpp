#include "interception/cgroup_watcher.h"

#include <dirent.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>

#include "base/log.h"
#include "interception/cgroup_tree.h"

namespace weir::interception {
namespace {

constexpr uint32_t kFolderEvents = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR;

// Runtimes put a pod's processes at most two levels below its folder (crun: pod/container/container). A pod that may
// write to its own cgroup can make any number of folders: what is deeper or beyond the number is not looked at.
constexpr size_t kDepthInPod = 2;
constexpr size_t kFoldersPerPod = 256;

constexpr int kReadsPerCall = 64;

std::string parent_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string child_of(const std::string& folder, std::string_view name) {
  std::string path = folder == "/" ? "" : folder;
  return path.append("/").append(name);
}

bool is_below(std::string_view path, std::string_view folder) {
  if (folder == "/") return path.size() > 1;
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

// The highest folder that has to be watched to see `root` appear and vanish: its file system's root (a cgroup mount).
std::string top_of(const std::string& root) {
  struct stat here {
  }, above{};
  std::string path = root;
  while (stat(path.c_str(), &here) != 0 && path != "/") path = parent_of(path);
  while (path != "/" && stat(parent_of(path).c_str(), &above) == 0 && above.st_dev == here.st_dev) {
    path = parent_of(path);
  }
  return path;
}

std::vector<std::string> subfolders(const std::string& path) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  if (!folder) return names;
  while (const dirent* entry = readdir(folder.get())) {
    std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

}  // namespace

CgroupWatcher::CgroupWatcher(std::vector<std::string> roots) {
  for (auto& root : roots) {
    while (root.size() > 1 && root.ends_with('/')) root.pop_back();
    if (root.starts_with('/') && std::find(roots_.begin(), roots_.end(), root) == roots_.end()) {
      roots_.push_back(std::move(root));
    }
  }
}

base::Result<void> CgroupWatcher::start() {
  inotify_ = base::Fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_) {
    return base::system_error("make an inotify instance to watch cgroups (see sysctl fs.inotify.max_user_instances)",
                              errno);
  }
  for (const auto& root : roots_) tops_.insert(top_of(root));
  std::set<std::string> met;
  for (const auto& top : tops_) adopt(top, met);
  bool watching = std::any_of(folders_.begin(), folders_.end(), [](const auto& f) { return f.second.watch >= 0; });
  if (!watching) return base::Error{"no cgroup folder can be watched for pods: is a cgroup2 hierarchy mounted?"};
  return {};
}

CgroupWatcher::Place CgroupWatcher::place_of(std::string_view path) const {
  Place place;
  for (const auto& root : roots_) {
    if (is_below(root, path)) {
      place.relevant = true;
      std::string_view rest = std::string_view(root).substr(path == "/" ? 1 : path.size() + 1);
      place.children.emplace(rest.substr(0, rest.find('/')));
      continue;
    }
    if (path == root) return {true, "", {}};
    if (!is_below(path, root)) continue;
    std::string_view below = path.substr(root.size() + 1);
    auto uid = pod_uid_of(below);
    if (!uid) return {may_hold_pods(below), "", {}};
    bool directly = pod_uid_of(below.substr(0, below.find('/'))).has_value();
    size_t depth = static_cast<size_t>(std::count(below.begin(), below.end(), '/')) - (directly ? 0 : 1);
    return {depth <= kDepthInPod, std::move(*uid), {}};
  }
  return place;
}

// Watching comes before looking inside: what appears in between is then seen twice, never missed.
bool CgroupWatcher::watch(const std::string& path, const Place& place) {
  auto known = folders_.find(path);
  if (!place.uid.empty() && known == folders_.end() && folders(place.uid).size() >= kFoldersPerPod) return false;

  int descriptor = inotify_add_watch(inotify_.get(), path.c_str(), kFolderEvents);
  if (descriptor < 0 && (errno == ENOENT || errno == ENOTDIR)) {
    drop(path);
    return false;
  }
  if (descriptor < 0) degrade(path, errno);
  if (known != folders_.end() && known->second.watch != descriptor) {
    drop(path);  // another folder of the same name: the one we watched is gone
    known = folders_.end();
  }
  if (known == folders_.end()) {
    // The same folder by another path (a hierarchy mounted twice) is followed already.
    if (descriptor >= 0 && !by_watch_.emplace(descriptor, path).second) return false;
    known = folders_.emplace(path, Folder{descriptor, -1, place.uid}).first;
    if (!place.uid.empty()) {
      pods_[place.uid].insert(path);
      changed_.insert(place.uid);
    }
  }
  Folder& folder = known->second;
  if (folder.uid.empty() || folder.events_watch >= 0) return true;
  // The folder's own watch would report cgroup.events too, but only while the kernel has its inode cached.
  folder.events_watch = inotify_add_watch(inotify_.get(), child_of(path, "cgroup.events").c_str(), IN_MODIFY);
  if (folder.events_watch >= 0) by_watch_.emplace(folder.events_watch, path);
  if (folder.events_watch < 0 && errno != ENOENT) degrade(path, errno);
  return true;
}

void CgroupWatcher::degrade(const std::string& path, int code) {
  if (!warned_) {
    base::log::warn("{}; pods are looked for once a second until it can be watched",
                    base::system_error("watch " + path, code).message);
  }
  warned_ = degraded_ = true;
}

void CgroupWatcher::adopt(const std::string& start, std::set<std::string>& met) {
  std::deque<std::string> queue = {start};  // breadth first, so that a pod's first folders get their watches first
  while (!queue.empty()) {
    std::string path = std::move(queue.front());
    queue.pop_front();
    Place place = place_of(path);
    if (!place.relevant || !watch(path, place)) continue;
    met.insert(path);
    if (!place.children.empty()) {
      for (const auto& name : place.children) queue.push_back(child_of(path, name));
    } else {
      errno = 0;
      const auto names = subfolders(path);
      // Out of descriptors, say: what is in it has to be looked for again.
      if (names.empty() && errno != 0 && errno != ENOENT && errno != ENOTDIR) degrade(path, errno);
      for (const auto& name : names) queue.push_back(child_of(path, name));
    }
  }
}

void CgroupWatcher::drop(const std::string& path) {
  auto forget = [this](const std::string& gone, const Folder& folder) {
    // A watch on a removed cgroup stays for ever unless it is taken away: the kernel reports nothing for it.
    for (int descriptor : {folder.watch, folder.events_watch}) {
      if (descriptor < 0) continue;
      inotify_rm_watch(inotify_.get(), descriptor);
      by_watch_.erase(descriptor);
    }
    if (folder.uid.empty()) return;
    changed_.insert(folder.uid);
    auto pod = pods_.find(folder.uid);
    if (pod == pods_.end()) return;
    pod->second.erase(gone);
    if (pod->second.empty()) pods_.erase(pod);
  };
  if (auto it = folders_.find(path); it != folders_.end()) {
    forget(it->first, it->second);
    folders_.erase(it);
  }
  auto it = folders_.lower_bound(path + "/");
  while (it != folders_.end() && is_below(it->first, path)) {
    forget(it->first, it->second);
    it = folders_.erase(it);
  }
}

void CgroupWatcher::rescan() {
  degraded_ = false;
  std::set<std::string> met;
  for (const auto& top : tops_) adopt(top, met);
  std::vector<std::string> gone;
  for (const auto& [path, folder] : folders_) {
    // What could not be looked into may be there all the same.
    if (!met.contains(path) && !(degraded_ && access(path.c_str(), F_OK) == 0)) gone.push_back(path);
  }
  if (warned_ && !degraded_) base::log::info("all of the pods' cgroups can be watched again");
  warned_ = degraded_;
  for (const auto& path : gone) drop(path);
  for (const auto& [uid, paths] : pods_) changed_.insert(uid);
}

void CgroupWatcher::handle(int watch, uint32_t mask, std::string_view name) {
  if (mask & IN_Q_OVERFLOW) {
    rescan();
    return;
  }
  auto found = by_watch_.find(watch);
  if (found == by_watch_.end()) return;  // of a folder dropped in the meantime
  const std::string path = found->second;
  Folder& folder = folders_.find(path)->second;
  if (watch == folder.events_watch) {
    if (mask & IN_IGNORED) {
      by_watch_.erase(found);
      folder.events_watch = -1;
    }
    changed_.insert(folder.uid);
  } else if (mask & IN_IGNORED) {
    drop(path);
  } else if (mask & IN_ISDIR) {
    if (mask & (IN_DELETE | IN_MOVED_FROM)) drop(child_of(path, name));
    if (mask & (IN_CREATE | IN_MOVED_TO)) {
      std::set<std::string> met;
      adopt(child_of(path, name), met);
    }
  }
}

std::set<std::string> CgroupWatcher::read_changes() {
  alignas(inotify_event) char buffer[16384];
  for (int reads = 0; reads < kReadsPerCall; ++reads) {
    ssize_t size = read(inotify_.get(), buffer, sizeof buffer);
    if (size <= 0) break;
    for (ssize_t at = 0; at < size;) {
      inotify_event event;
      std::memcpy(&event, buffer + at, sizeof event);
      const char* name = buffer + at + sizeof event;
      handle(event.wd, event.mask, std::string_view(name, strnlen(name, event.len)));
      at += static_cast<ssize_t>(sizeof event) + event.len;
    }
  }
  return std::exchange(changed_, {});
}

const std::set<std::string>& CgroupWatcher::folders(std::string_view uid) const {
  static const std::set<std::string> none;
  auto pod = pods_.find(uid);
  return pod == pods_.end() ? none : pod->second;
}

bool CgroupWatcher::tells_processes(std::string_view uid) const {
  const auto& paths = folders(uid);
  return std::any_of(paths.begin(), paths.end(),
                     [this](const std::string& path) { return folders_.find(path)->second.events_watch >= 0; });
}

}  // namespace weir::interception
