#include "interception/redirect_gate.h"

#include <sys/utsname.h>

#include <cstdio>
#include <fstream>

namespace weir::interception {
namespace {

// Where the fixes are: a long-term series from this release on, and whatever came after the last of them.
constexpr KernelVersion kFixed[] = {{6, 1, 142}, {6, 6, 95}, {6, 12, 35}};
constexpr KernelVersion kFixedFrom = {6, 15, 0};

// At the beginning of `text`: "6.1.158-1" -> 6.1.158, "6.16-rc1" -> 6.16.0.
std::optional<KernelVersion> parse(const std::string& text) {
  KernelVersion version;
  if (std::sscanf(text.c_str(), "%u.%u.%u", &version.major, &version.minor, &version.patch) < 2) return std::nullopt;
  return version;
}

}  // namespace

KernelNames running_kernel() {
  KernelNames names;
  utsname name{};
  if (uname(&name) == 0) {
    names.release = name.release;
    names.version = name.version;
  }
  std::ifstream signature("/proc/version_signature");
  std::getline(signature, names.signature);
  return names;
}

std::string KernelVersion::to_string() const {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

std::optional<KernelVersion> upstream_version(const KernelNames& names) {
  if (const size_t last = names.signature.rfind(' '); last != std::string::npos) {
    if (const auto version = parse(names.signature.substr(last + 1))) return version;
  }
  constexpr char kDebian[] = " Debian ";
  if (const size_t at = names.version.find(kDebian); at != std::string::npos) {
    if (const auto version = parse(names.version.substr(at + sizeof kDebian - 1))) return version;
  }
  return parse(names.release);
}

RedirectState redirect_gate(RedirectSetting setting, const KernelNames& names) {
  if (setting == RedirectSetting::off) return {false, "--redirect off"};
  if (setting == RedirectSetting::on) return {true, "--redirect on"};
  const auto version = upstream_version(names);
  if (!version) return {false, "the kernel's version is not known: " + names.release};
  const std::string name = "Linux " + version->to_string();
  if (*version >= kFixedFrom) return {true, name};
  for (const KernelVersion& fixed : kFixed) {
    if (version->major != fixed.major || version->minor != fixed.minor) continue;
    if (*version >= fixed) return {true, name};
    return {false, name + " is older than " + fixed.to_string()};
  }
  return {false, name + " has no fixed sockmap (6.1.142, 6.6.95, 6.12.35 or 6.15 and later have)"};
}

}  // namespace weir::interception
