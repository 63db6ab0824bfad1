// What tests of enrolment are made of: temporary folders, cgroup folders on the
// machine's cgroup2, and processes in network namespaces of their own. All of it
// is gone when its object is, and what a killed run left is cleared at the start.
#pragma once

#include <netinet/in.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/fd.h"

namespace weir::interception::testing {

class TemporaryFolder {
 public:
  explicit TemporaryFolder(const char* parent = "/tmp");
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;

  std::string path(const std::string& below) const { return path_ + "/" + below; }
  void make(const std::string& below) const;
  void remove(const std::string& below) const;
  void write(const std::string& below, const std::string& text) const;
  void link(const std::string& below, const std::string& target) const;

 private:
  std::string path_;
};

// A folder of this test on cgroup2, with whatever is made below it.
class CgroupFolder {
 public:
  CgroupFolder();
  ~CgroupFolder();
  CgroupFolder(const CgroupFolder&) = delete;

  std::string path(const std::string& below) const { return path_ + "/" + below; }
  void make(const std::string& below) const;
  void remove(const std::string& below) const;  // the folder and those inside; their processes are ended
  void put(pid_t process, const std::string& below) const;

 private:
  std::string path_;
};

// A child process that stays in the test's network namespace until told otherwise.
class Process {
 public:
  Process();
  ~Process() { end(); }
  Process(Process&& other) noexcept;
  Process(const Process&) = delete;

  pid_t pid() const { return pid_; }
  std::string netns() const { return "/proc/" + std::to_string(pid_) + "/ns/net"; }
  // A new network namespace, its loopback up. Returns when it is finished.
  base::Instant make_netns();
  void make_netns_without_ipv6();
  void make_netns_with_loopback_down();
  void raise_loopback();
  // Gives the loopback device of its namespace one more address.
  void add_address(const char* ip);
  void enter_netns_of(const Process& other);
  void end();

 private:
  base::Instant command(char what, uint32_t argument = 0);
  base::Instant command(char what, uint32_t argument, const in6_addr& ip6);
  pid_t pid_ = -1;
  base::Fd channel_;
};

size_t open_descriptors();
// Watches of an inotify descriptor.
size_t watches(int inotify);

}  // namespace weir::interception::testing
