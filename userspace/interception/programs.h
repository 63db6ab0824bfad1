// Programs loads bpf/weir.bpf.c, pins its maps and links below bpf_dir/v<ABI>,
// and attaches it to a cgroup. Pinned links survive the agent: a later agent
// swaps the programs behind them atomically (bpf_link__update_program).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "interception/maps.h"
#include "interception/redirect_gate.h"

namespace weir::interception {

struct ProgramOptions {
  std::string bpf_dir = "/sys/fs/bpf/weir";
  std::string pods_cgroup;   // cgroup v2 folder whose sockets are looked at (kubepods)
  std::string agent_cgroup;  // the agent's own; sockops is attached here too unless it lies below pods_cgroup
  RedirectState redirect;    // what the gate says
};

class Programs {
 public:
  // Loads the programs and creates or reuses the pinned maps. Needs CAP_BPF and CAP_NET_ADMIN. Where the kernel
  // does not take the redirect that `options` ask for, everything else is loaded: redirect() says why.
  static base::Result<Programs> load(const ProgramOptions& options);
  // Attaches every program by a pinned link, or updates the program of the pinned link.
  base::Result<void> attach();
  // Whether a link is gone that attach() has made: its pin was removed, or its cgroup was.
  bool detached() const;
  // Pins and attaches anew whatever is not there any more.
  base::Result<void> restore();
  // Removes links and maps from bpf_dir, whichever ABI version; the hooks are gone when it returns.
  static base::Result<void> uninstall(const std::string& bpf_dir);

  Maps& maps();
  const RedirectState& redirect() const;

  Programs(Programs&&) noexcept;
  Programs& operator=(Programs&&) noexcept;
  ~Programs();

 private:
  struct Loaded;
  explicit Programs(std::unique_ptr<Loaded> loaded);
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace weir::interception
