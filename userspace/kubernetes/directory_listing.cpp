#include "kubernetes/directory_listing.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>

#include "kubernetes/findings.h"

namespace weir::kubernetes {
namespace {

int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000LL + time.tv_nsec; }

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

class Walk {
 public:
  explicit Walk(const std::function<void(const std::string&)>& before_reading) : before_reading_(before_reading) {}

  // Returns errno if the folder cannot be read.
  int visit(const std::string& folder, int depth) {
    std::unique_ptr<DIR, CloseDirectory> directory(opendir(folder.c_str()));
    if (!directory) return errno;
    struct stat status;
    if (fstat(dirfd(directory.get()), &status) != 0) return errno;
    // Symbolic links can make loops.
    if (!visited_.emplace(status.st_dev, status.st_ino).second) return 0;
    before_reading_(folder);
    listing_.folders.push_back(folder);
    std::vector<std::string> folders;
    for (;;) {
      errno = 0;
      const dirent* entry = readdir(directory.get());
      if (!entry && errno != 0) return errno;
      if (!entry || !add(folder, entry->d_name, folders)) break;
    }
    directory.reset();  // not one descriptor for each level
    for (const std::string& inner : folders) {
      if (depth >= kMaxFolderDepth) {
        listing_.too_deep.push_back(inner);
      } else if (int error = visit(inner, depth + 1); error != 0 && error != ENOENT) {
        listing_.unreadable.push_back(inner);
      }
    }
    return 0;
  }

  DirectoryListing take() { return std::move(listing_); }

 private:
  // False: enough.
  bool add(const std::string& folder, std::string_view name, std::vector<std::string>& folders) {
    if (name.starts_with('.')) return true;
    std::string path = folder + "/" + std::string(name);
    struct stat status;
    if (stat(path.c_str(), &status) != 0) return true;  // gone again, or a dangling link
    if (S_ISDIR(status.st_mode)) {
      folders.push_back(std::move(path));
    } else if (is_manifest_name(name)) {
      listing_.files[std::move(path)] = {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim),
                                         nanoseconds(status.st_ctim)};
    }
    if (listing_.files.size() + listing_.folders.size() + folders.size() <= kMaxFiles) return true;
    listing_.complete = false;
    return false;
  }

  const std::function<void(const std::string&)>& before_reading_;
  DirectoryListing listing_;
  std::set<std::pair<dev_t, ino_t>> visited_;
};

}  // namespace

bool is_manifest_name(std::string_view name) {
  if (name.starts_with('.') || name.starts_with('#')) return false;
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

base::Result<DirectoryListing> list_manifests(const std::string& root,
                                              const std::function<void(const std::string& folder)>& before_reading) {
  Walk walk(before_reading);
  if (int error = walk.visit(root, 0); error != 0) return base::system_error("read the directory " + root, error);
  DirectoryListing listing = walk.take();
  std::sort(listing.folders.begin(), listing.folders.end());
  return listing;
}

std::vector<config::Finding> findings_about(const std::string& root, const DirectoryListing& listing) {
  std::vector<config::Finding> findings;
  auto report = [&](Code code, std::string message, std::string fix) {
    findings.push_back(finding(code, {root, 0}, {}, std::move(message), std::move(fix)));
  };
  for (const std::string& folder : listing.unreadable) {
    report(Code::unreadable_directory, "cannot read " + folder + "; what it held stays", "check its permissions");
  }
  for (const std::string& folder : listing.too_deep) {
    report(Code::limit_exceeded, folder + " is nested too deeply and not read", "move it up");
  }
  if (!listing.complete) {
    report(Code::limit_exceeded, "there are more than " + std::to_string(kMaxFiles) + " files; the others are not read",
           "put several objects into one file");
  }
  return findings;
}

}  // namespace weir::kubernetes
