// ManifestDirectory keeps an ObjectStore in step with a directory of manifests
// (*.yaml, *.yml, *.json, subfolders included). inotify says when to look, a scan
// says what changed: so replaced files, swapped symbolic links (ConfigMap volumes)
// and lost events all end in the same place. What cannot be read now (a file, the
// whole directory) keeps its last good objects and gets a finding. One thread.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "kubernetes/directory_listing.h"
#include "kubernetes/object_store.h"

namespace weir::kubernetes {

class ManifestDirectory {
 public:
  static constexpr base::Duration kDebounce = std::chrono::milliseconds(20);      // after the last event
  static constexpr base::Duration kLongestWait = std::chrono::milliseconds(200);  // after the first event
  // A file whose writer has not closed it yet is read once it has been still for so long.
  static constexpr base::Duration kSettled = std::chrono::milliseconds(300);
  // Removals wait for such files, but not for ever.
  static constexpr base::Duration kLongestUnsettled = std::chrono::seconds(1);
  static constexpr base::Duration kRetry = std::chrono::milliseconds(500);  // of a directory that is missing
  // Files that links lead to elsewhere give no events.
  static constexpr base::Duration kRescan = std::chrono::seconds(10);

  // The store must outlive this.
  ManifestDirectory(std::string path, ObjectStore* store);

  // Reads everything. An error says why the directory cannot be read or watched; after the
  // first of these tick() keeps trying.
  base::Result<void> load(base::Instant now);

  int fd() const { return inotify_.get(); }  // readable: call on_readable()
  // Both return whether the store changed.
  bool on_readable(base::Instant now);
  bool tick(base::Instant now);
  // When tick() has something to do; nothing before load().
  std::optional<base::Instant> next_deadline() const { return scan_at_; }

 private:
  void drain_events();
  void watch(const std::string& folder);
  void drop_old_watches(const DirectoryListing& listing);
  bool scan(base::Instant now);
  bool report_listing(const DirectoryListing& listing);
  bool forget_missing(const DirectoryListing& listing);
  bool read(const std::string& file, FileVersion version);

  std::string path_;
  ObjectStore* store_;
  base::Fd inotify_;
  std::map<int, std::string> watched_;  // watch descriptor -> folder
  std::string watch_error_;             // of the last scan
  std::string unreadable_;              // why the last scan could not read the directory
  std::map<std::string, FileVersion> known_;
  std::set<std::string> written_;  // files whose writer closed them since they were read
  bool distrust_all_ = true;       // events were lost: read every file again
  std::optional<base::Instant> first_event_;
  std::optional<base::Instant> unsettled_since_;
  std::optional<base::Instant> scan_at_;
};

}  // namespace weir::kubernetes
