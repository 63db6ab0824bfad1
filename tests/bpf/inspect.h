// What the kernel has: links, maps and programs, looked at past the code under test.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "weir/bpf_abi.h"

namespace weir::bpf_test {

extern const std::vector<int> kPodHooks;  // attach types that the pods' cgroup gets

struct PinnedLink {
  uint32_t id = 0;
  uint32_t program_id = 0;
};
std::map<std::string, PinnedLink> links_in(const std::string& bpf_dir);
std::map<std::string, uint32_t> maps_in(const std::string& bpf_dir);  // name -> id
std::vector<std::string> names_of_attached(const std::string& cgroup, int attach_type);
// The program that dispatches sk_msg at last: an id, 0 if the slot is empty.
uint32_t redirect_program(const std::string& bpf_dir);
// How many counted rows `pending` has in a slot of `pending_counts`; the last one is of all pods.
int64_t pending_count(const std::string& bpf_dir, uint64_t slot = WEIR_PENDING_SLOTS);
void set_pending_count(const std::string& bpf_dir, uint64_t slot, int64_t count);
// Whether an object disappears within two seconds: the kernel frees after a grace period.
bool gone(const std::function<int()>& open_by_id);
bool kernel_is_older_than(int major, int minor);
// Runs `body` in a forked child of user 0 without any capability and returns what it returned.
std::string in_unprivileged_child(const std::function<std::string()>& body);

}  // namespace weir::bpf_test
