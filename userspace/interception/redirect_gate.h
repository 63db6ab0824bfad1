// Whether redirect (bpf/redirect.h) is used on this kernel: sockmap lost and
// reordered bytes until fixes of mid-2025, so it is on from the releases that have them.
// Pure but for running_kernel().
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

namespace weir::interception {

enum class RedirectSetting : uint8_t { automatic, on, off };

// What a kernel says of itself.
struct KernelNames {
  std::string release;    // uname -r: "6.1.0-41-cloud-amd64"
  std::string version;    // uname -v: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)"
  std::string signature;  // /proc/version_signature, Ubuntu's: "Ubuntu 6.8.0-31.31-generic 6.8.1"
};
KernelNames running_kernel();

struct KernelVersion {
  unsigned major = 0, minor = 0, patch = 0;
  auto operator<=>(const KernelVersion&) const = default;
  std::string to_string() const;
};
// The kernel.org release that a kernel is built from; a distribution's own numbers stand in its release.
std::optional<KernelVersion> upstream_version(const KernelNames& names);

struct RedirectState {
  bool on = false;
  std::string reason;  // for people: "Linux 6.18.44", "Linux 6.1.90 is older than 6.1.142", "--redirect off"
};
RedirectState redirect_gate(RedirectSetting setting, const KernelNames& names);

}  // namespace weir::interception
