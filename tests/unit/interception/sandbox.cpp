#include "sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "interception/cgroup_tree.h"

namespace weir::interception::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "weir-enrolment-test-";

void require(bool ok, const std::string& what) {
  if (!ok) throw std::runtime_error(what + ": " + std::strerror(errno));
}

std::string cgroup2_mount() {
  std::ifstream file("/proc/mounts");
  std::string text(std::istreambuf_iterator<char>(file), {});
  for (const auto& mount : parse_cgroup_mounts(text)) {
    if (mount.v2) return mount.path;
  }
  throw std::runtime_error("no cgroup2 is mounted");
}

// Ends the processes inside, then removes the folders, innermost first.
void clear_cgroup(const fs::path& path) {
  std::vector<fs::path> folders = {path};
  std::error_code ignored;
  for (fs::recursive_directory_iterator it(path, ignored), end; it != end; it.increment(ignored)) {
    if (it->is_directory(ignored)) folders.push_back(it->path());
  }
  std::reverse(folders.begin(), folders.end());
  for (const auto& folder : folders) {
    for (int attempt = 0; attempt < 100; ++attempt) {
      if (rmdir(folder.c_str()) == 0 || errno == ENOENT) break;
      std::ifstream procs(folder / "cgroup.procs");
      for (pid_t process; procs >> process;) kill(process, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

void clear_leftovers(const fs::path& mount) {
  for (const auto& entry : fs::directory_iterator(mount)) {
    std::string name = entry.path().filename();
    if (!name.starts_with(kPrefix)) continue;
    pid_t owner = std::atoi(name.c_str() + std::strlen(kPrefix));
    if (owner > 0 && kill(owner, 0) != 0 && errno == ESRCH) clear_cgroup(entry.path());
  }
}

bool set_flags_of_loopback(short flags) {
  base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = flags;
  return ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0;
}

bool add_address_to_loopback(uint32_t ip_be) {
  base::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo:1");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ip_be;
  std::memcpy(&request.ifr_addr, &address, sizeof address);
  return ioctl(fd.get(), SIOCSIFADDR, &request) == 0;
}

bool disable_ipv6() {
  base::Fd fd(open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY | O_CLOEXEC));
  return write(fd.get(), "1", 1) == 1;
}

bool enter(pid_t process) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/ns/net", process);
  base::Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  return setns(fd.get(), CLONE_NEWNET) == 0;
}

bool add_address6_to_loopback(const in6_addr& ip) {
  base::Fd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  struct {  // struct in6_ifreq, whose header does not go with <net/if.h>
    in6_addr address;
    uint32_t prefix_length;
    int index;
  } request{ip, 128, static_cast<int>(if_nametoindex("lo"))};
  return ioctl(fd.get(), SIOCSIFADDR, &request) == 0;
}

struct Command {
  char what;
  uint32_t argument;
  in6_addr ip6;
};

bool obey(const Command& command) {
  switch (command.what) {
    case 'n':
      return unshare(CLONE_NEWNET) == 0 && set_flags_of_loopback(IFF_UP);
    case '6':
      return unshare(CLONE_NEWNET) == 0 && disable_ipv6() && set_flags_of_loopback(IFF_UP);
    case 'd':
      return unshare(CLONE_NEWNET) == 0;
    case 'u':
      return set_flags_of_loopback(IFF_UP);
    case 'a':
      return add_address_to_loopback(command.argument);
    case 'A':
      return add_address6_to_loopback(command.ip6);
    case 'e':
      return enter(static_cast<pid_t>(command.argument));
    default:
      return false;
  }
}

[[noreturn]] void child(int channel, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  Command command;
  while (read(channel, &command, sizeof command) == sizeof command) {
    int64_t answer = obey(command) ? base::MonotonicClock::now().time_since_epoch().count() : -1;
    if (write(channel, &answer, sizeof answer) != sizeof answer) break;
  }
  _exit(0);
}

}  // namespace

TemporaryFolder::TemporaryFolder(const char* parent) {
  path_ = std::string(parent) + "/weir-enrolment-XXXXXX";
  require(mkdtemp(path_.data()) != nullptr, "make " + path_);
}
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}
void TemporaryFolder::make(const std::string& below) const { fs::create_directories(path(below)); }
void TemporaryFolder::remove(const std::string& below) const { fs::remove_all(path(below)); }
void TemporaryFolder::write(const std::string& below, const std::string& text) const {
  std::ofstream(path(below)) << text;
}
void TemporaryFolder::link(const std::string& below, const std::string& target) const {
  fs::remove(path(below));
  fs::create_symlink(target, path(below));
}

CgroupFolder::CgroupFolder() {
  static std::atomic<int> made = 0;
  std::string mount = cgroup2_mount();
  clear_leftovers(mount);
  path_ = mount + "/" + kPrefix + std::to_string(getpid()) + "-" + std::to_string(++made);
  require(mkdir(path_.c_str(), 0755) == 0, "make " + path_);
}
CgroupFolder::~CgroupFolder() { clear_cgroup(path_); }
void CgroupFolder::make(const std::string& below) const { fs::create_directories(path(below)); }
void CgroupFolder::remove(const std::string& below) const { clear_cgroup(path(below)); }
void CgroupFolder::put(pid_t process, const std::string& below) const {
  base::Fd procs(open((path(below) + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  std::string text = std::to_string(process);
  require(::write(procs.get(), text.data(), text.size()) > 0, "put a process into " + path(below));
}

Process::Process() {
  int ends[2];
  require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "make a socket pair");
  pid_t parent = getpid();
  pid_ = fork();
  require(pid_ >= 0, "fork");
  if (pid_ == 0) {
    close(ends[0]);
    child(ends[1], parent);
  }
  close(ends[1]);
  channel_ = base::Fd(ends[0]);
}
Process::Process(Process&& other) noexcept : pid_(std::exchange(other.pid_, -1)), channel_(std::move(other.channel_)) {}

base::Instant Process::command(char what, uint32_t argument) { return command(what, argument, {}); }
base::Instant Process::command(char what, uint32_t argument, const in6_addr& ip6) {
  Command command{what, argument, ip6};
  int64_t answer = -1;
  require(write(channel_.get(), &command, sizeof command) == sizeof command, "command a process");
  require(read(channel_.get(), &answer, sizeof answer) == sizeof answer, "hear of a process");
  if (answer < 0) throw std::runtime_error(std::string("a process failed to obey ") + what);
  return base::Instant(base::Duration(answer));
}
base::Instant Process::make_netns() { return command('n'); }
void Process::make_netns_without_ipv6() { command('6'); }
void Process::make_netns_with_loopback_down() { command('d'); }
void Process::raise_loopback() { command('u'); }
void Process::add_address(const char* ip) {
  in6_addr ip6;
  if (inet_pton(AF_INET6, ip, &ip6) == 1)
    command('A', 0, ip6);
  else
    command('a', inet_addr(ip));
}
void Process::enter_netns_of(const Process& other) { command('e', static_cast<uint32_t>(other.pid_)); }
void Process::end() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  channel_.reset();
  pid_ = -1;
}

size_t open_descriptors() {
  auto all = fs::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(fs::begin(all), fs::end(all)));
}

size_t watches(int inotify) {
  std::ifstream info("/proc/self/fdinfo/" + std::to_string(inotify));
  size_t count = 0;
  for (std::string line; std::getline(info, line);) count += line.starts_with("inotify wd:");
  return count;
}

}  // namespace weir::interception::testing
