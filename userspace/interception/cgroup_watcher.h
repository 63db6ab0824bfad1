// CgroupWatcher follows the pods' folders below the kubepods roots by inotify:
// which folders each pod has, and when a pod's folders or processes may have
// changed. A root may be missing, appear, vanish and appear again. A pod's change
// is never missed: at worst (queue overflow) every pod is reported as changed.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace weir::interception {

class CgroupWatcher {
 public:
  explicit CgroupWatcher(std::vector<std::string> roots);

  // Fails if inotify can't be had, or no root exists nor can appear.
  base::Result<void> start();
  // Readable when read_changes() has something to say.
  int fd() const { return inotify_.get(); }
  // UIDs of the pods whose folders or processes may have changed since the last call. Never blocks.
  std::set<std::string> read_changes();
  // Compares everything known with the tree as it is; read_changes() then names all pods.
  void rescan();
  // Some folder could not be watched (fs.inotify.max_user_watches): what happens in it shows only after rescan().
  bool degraded() const { return degraded_; }

  // The folders that may hold the pod's processes; empty if it has none.
  const std::set<std::string>& folders(std::string_view uid) const;
  // Whether read_changes() names the pod when processes come and go. v1 hierarchies have no such event.
  bool tells_processes(std::string_view uid) const;

 private:
  struct Folder {
    int watch = -1;         // tells of folders that appear and vanish in it
    int events_watch = -1;  // of its cgroup.events: tells when it becomes populated or empty
    std::string uid;        // of the pod it belongs to; empty above pods
  };
  // What a path means, by its place relative to the roots.
  struct Place {
    bool relevant = false;
    std::string uid;
    std::set<std::string> children;  // above a root, the names that lead to one; everywhere else empty: all matter
  };
  Place place_of(std::string_view path) const;
  // Watches `start` and what matters below it; adds the folders met to `met`.
  void adopt(const std::string& start, std::set<std::string>& met);
  bool watch(const std::string& path, const Place& place);
  void drop(const std::string& path);
  void degrade(const std::string& path, int code);
  void handle(int watch, uint32_t mask, std::string_view name);

  std::vector<std::string> roots_;
  std::set<std::string> tops_;  // the highest folders watched: nothing above them can vanish
  base::Fd inotify_;
  std::map<std::string, Folder, std::less<>> folders_;  // by path
  std::unordered_map<int, std::string> by_watch_;
  std::map<std::string, std::set<std::string>, std::less<>> pods_;  // UID -> paths
  std::set<std::string> changed_;
  bool degraded_ = false;
  bool warned_ = false;  // of it; kept while rescan() finds out anew
};

}  // namespace weir::interception
