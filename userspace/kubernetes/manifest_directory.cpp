#include "kubernetes/manifest_directory.h"

#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kubernetes/decode.h"
#include "kubernetes/document.h"
#include "kubernetes/findings.h"
#include "kubernetes/manifest_file.h"

namespace weir::kubernetes {
namespace {

constexpr uint32_t kEvents = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF |
                             IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;

bool is_below(const std::string& path, const std::string& folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

int64_t wall_clock_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

}  // namespace

ManifestDirectory::ManifestDirectory(std::string path, ObjectStore* store) : path_(std::move(path)), store_(store) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
}

base::Result<void> ManifestDirectory::load(base::Instant now) {
  inotify_ = base::Fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_) return base::system_error("watch " + path_ + ": inotify_init1", errno);
  scan(now);
  if (!unreadable_.empty()) return base::Error{unreadable_};
  return {};
}

bool ManifestDirectory::on_readable(base::Instant now) {
  drain_events();
  if (!first_event_) first_event_ = now;
  scan_at_ = std::min(now + kDebounce, *first_event_ + kLongestWait);
  return tick(now);
}

bool ManifestDirectory::tick(base::Instant now) {
  if (!scan_at_ || now < *scan_at_) return false;
  return scan(now);
}

void ManifestDirectory::drain_events() {
  alignas(inotify_event) char buffer[16384];
  for (;;) {
    ssize_t size = ::read(inotify_.get(), buffer, sizeof buffer);
    if (size <= 0) return;
    for (char* at = buffer; at < buffer + size;) {
      inotify_event event;
      std::memcpy(&event, at, sizeof event);
      const char* name = at + sizeof event;
      at += sizeof event + event.len;
      // ConfigMap volumes swap this link when everything below it is written.
      bool swapped = (event.mask & IN_MOVED_TO) && event.len > 0 && std::string_view(name) == "..data";
      if ((event.mask & IN_Q_OVERFLOW) || swapped) distrust_all_ = true;
      auto folder = watched_.find(event.wd);
      if (folder == watched_.end()) continue;
      if (event.mask & IN_IGNORED) {
        watched_.erase(folder);
      } else if (event.len > 0 && (event.mask & (IN_CLOSE_WRITE | IN_MOVED_TO)) && is_manifest_name(name)) {
        written_.insert(folder->second + "/" + name);
      }
    }
  }
}

void ManifestDirectory::watch(const std::string& folder) {
  int wd = inotify_add_watch(inotify_.get(), folder.c_str(), kEvents);
  if (wd >= 0) {
    watched_[wd] = folder;
  } else if (errno != ENOENT && errno != ENOTDIR) {
    watch_error_ = base::system_error("watch " + folder, errno).message;
  }
}

void ManifestDirectory::drop_old_watches(const DirectoryListing& listing) {
  for (auto it = watched_.begin(); it != watched_.end();) {
    bool current = std::binary_search(listing.folders.begin(), listing.folders.end(), it->second);
    // A folder swapped for another of its name has two watches: setting one again tells the right one.
    if (current && inotify_add_watch(inotify_.get(), it->second.c_str(), kEvents) == it->first) {
      ++it;
    } else {
      inotify_rm_watch(inotify_.get(), it->first);
      it = watched_.erase(it);
    }
  }
}

bool ManifestDirectory::scan(base::Instant now) {
  first_event_.reset();
  watch_error_.clear();
  auto listing = list_manifests(path_, [this](const std::string& folder) { watch(folder); });
  // Without the root nothing can be said about what is in it.
  struct stat root;
  if (listing && stat(path_.c_str(), &root) != 0) {
    listing = base::system_error("read the directory " + path_, errno);
  }
  if (!listing) {
    unreadable_ = listing.error().message;
    scan_at_ = now + kRetry;
    return store_->set_findings(
        path_, {finding(Code::unreadable_directory, {path_, 0}, {}, unreadable_ + "; the last good configuration stays",
                        "restore the directory: it is read again when it is back")});
  }
  unreadable_.clear();
  drop_old_watches(*listing);
  bool changed = false;
  bool distrust = std::exchange(distrust_all_, false);
  bool unsettled = false;
  for (const auto& [file, version] : listing->files) {
    auto known = known_.find(file);
    bool written = distrust || written_.erase(file) > 0;
    if (!written && known != known_.end() && known->second == version) continue;
    int64_t age = wall_clock_ns() - version.modified_ns;
    if (!written && age >= 0 && age < kSettled.count()) {
      unsettled = true;
      continue;
    }
    changed |= read(file, version);
  }
  written_.clear();
  if (!unsettled) unsettled_since_.reset();
  if (unsettled && !unsettled_since_) unsettled_since_ = now;
  // An object may have moved to a file that cannot be read yet: it must not be missing in between.
  if (!unsettled || now - *unsettled_since_ > kLongestUnsettled) changed |= forget_missing(*listing);
  scan_at_ = now + (unsettled ? kSettled : kRescan);
  changed |= report_listing(*listing);
  return changed;
}

bool ManifestDirectory::report_listing(const DirectoryListing& listing) {
  std::vector<config::Finding> findings = findings_about(path_, listing);
  if (!watch_error_.empty()) {
    findings.push_back(finding(Code::unreadable_directory, {path_, 0}, {},
                               watch_error_ + "; changes are seen late, when the directory is read again",
                               "raise fs.inotify.max_user_watches"));
  }
  return store_->set_findings(path_, std::move(findings));
}

bool ManifestDirectory::forget_missing(const DirectoryListing& listing) {
  if (!listing.complete) return false;
  bool changed = false;
  for (auto it = known_.begin(); it != known_.end();) {
    bool unknown = std::any_of(listing.unreadable.begin(), listing.unreadable.end(),
                               [&](const std::string& folder) { return is_below(it->first, folder); });
    if (unknown || listing.files.contains(it->first)) {
      ++it;
    } else {
      changed |= store_->forget(it->first);
      it = known_.erase(it);
    }
  }
  return changed;
}

bool ManifestDirectory::read(const std::string& file, FileVersion version) {
  known_[file] = version;
  auto text = read_file(file);
  if (text) return store_->replace(file, read_manifest(*text, file));
  const bool is_too_large = text.error().code == EFBIG;
  if (!is_too_large) known_[file] = FileVersion{};  // tried again with each scan
  return store_->set_findings(file, {finding(is_too_large ? Code::too_large : Code::unreadable_file, {file, 0}, {},
                                             text.error().message + "; the last good version of its objects stays",
                                             is_too_large ? kSplitTheFile : "")});
}

}  // namespace weir::kubernetes
