// Links that outlive the agent: a BPF program attached through a pin in bpffs.
// Pinning over an existing pin swaps the program behind it atomically where the
// link still belongs to the same target. Otherwise the old link goes first: two
// weir programs at one connect() would undo each other, none at all is the plain way.
#pragma once

#include <cstdint>
#include <string>

#include "base/fd.h"
#include "base/result.h"

struct bpf_map;
struct bpf_program;

namespace weir::interception {

// A cgroup v2 folder that programs are attached to.
class Cgroup {
 public:
  static base::Result<Cgroup> open(const std::string& path);

  int fd() const { return fd_.get(); }
  uint64_t id() const { return id_; }  // as bpf_link_info has it
  const std::string& path() const { return path_; }

 private:
  Cgroup(base::Fd fd, uint64_t id, std::string path) : fd_(std::move(fd)), id_(id), path_(std::move(path)) {}
  base::Fd fd_;
  uint64_t id_;
  std::string path_;
};

// Whether `path` is `ancestor` or lies below it.
bool is_below(const std::string& path, const std::string& ancestor);

// Never with flags that exclude other products' programs. Where those stand at the same connect hook, weir goes
// first (a socket load balancer would hide the service address) or, on kernels that cannot, not at all.
base::Result<void> pin_cgroup_link(bpf_program* program, const Cgroup& cgroup, const std::string& pin);
base::Result<void> pin_iterator_link(bpf_program* program, const bpf_map* map, const std::string& pin);
// An sk_msg program for the sockets of a SOCKHASH. Before 6.10 there is no such link, and the program belongs to the
// map as long as that exists.
base::Result<void> pin_sockets_link(bpf_program* program, const bpf_map* sockets, const std::string& pin);
// Removes the pin if it holds anything but a link of this program to this cgroup.
base::Result<void> remove_link_elsewhere(const bpf_program* program, const Cgroup& cgroup, const std::string& pin);
// Whether the pin of a cgroup link is gone, or its cgroup is.
bool is_detached(const std::string& pin);
// Detaches at once, whoever else holds the link, and removes the pin. No pin: success.
base::Result<void> remove_link(const std::string& pin);

}  // namespace weir::interception
