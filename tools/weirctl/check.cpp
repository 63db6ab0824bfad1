// weirctl check: what weir needs of the machine, and after installation whether it works.
#include <dirent.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "interception/maps.h"
#include "interception/redirect_gate.h"
#include "weir/admin_api.h"
#include "weirctl/agent.h"
#include "weirctl/commands.h"
#include "weirctl/names.h"
#include "weirctl/output.h"
#include "weirctl/table.h"
#include "weirctl/views.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
namespace key = admin_api::key;

constexpr int kOldestMajor = 6, kOldestMinor = 1;
constexpr rlim_t kFewDescriptors = 65'536;

json check(const char* name, const char* result, const std::string& detail, const std::string& remedy = {}) {
  return {{key::name, name}, {"result", result}, {"detail", detail}, {"remedy", remedy}};
}
json good(const char* name, const std::string& detail) { return check(name, "ok", detail); }
json warning(const char* name, const std::string& detail, const std::string& remedy) {
  return check(name, "warning", detail, remedy);
}
json bad(const char* name, const std::string& detail, const std::string& remedy) {
  return check(name, "error", detail, remedy);
}

std::string first_line(const char* path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

json check_kernel() {
  utsname name{};
  ::uname(&name);
  int major = 0, minor = 0;
  std::sscanf(name.release, "%d.%d", &major, &minor);
  if (major < kOldestMajor || (major == kOldestMajor && minor < kOldestMinor)) {
    return bad("kernel", name.release, "weir needs Linux 6.1 or newer");
  }
  return good("kernel", name.release);
}

// Everything works without, at more CPU.
json check_redirect() {
  const auto state =
      interception::redirect_gate(interception::RedirectSetting::automatic, interception::running_kernel());
  if (state.on) return good("redirect", state.reason);
  return warning("redirect", "off: " + state.reason, "run a kernel of 6.1.142, 6.6.95, 6.12.35, 6.15 or later");
}

json check_btf() {
  if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0) return good("BTF", "/sys/kernel/btf/vmlinux");
  return bad("BTF", "/sys/kernel/btf/vmlinux can't be read", "run a kernel built with CONFIG_DEBUG_INFO_BTF=y");
}

// The pins' folder, or the nearest one above it that exists.
json check_bpffs(const std::string& bpf_dir) {
  std::filesystem::path folder(bpf_dir);
  std::error_code ignored;
  while (!std::filesystem::exists(folder, ignored) && folder.has_relative_path()) folder = folder.parent_path();
  struct statfs info {};
  if (::statfs(folder.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC) return good("bpffs", folder.string());
  return bad("bpffs", bpf_dir + " is not on a BPF file system", "mount -t bpf bpf /sys/fs/bpf");
}

json check_cgroup() {
  std::ifstream mounts("/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device, folder, type;
    fields >> device >> folder >> type;
    if (type == "cgroup2") return good("cgroup2", folder);
  }
  return bad("cgroup2", "not mounted", "mount -t cgroup2 none /sys/fs/cgroup");
}

json check_io_uring() {
  io_uring_params parameters{};
  const long ring = ::syscall(SYS_io_uring_setup, 1, &parameters);
  if (ring >= 0) {
    ::close(static_cast<int>(ring));
    return good("io_uring", "works");
  }
  const int why = errno;
  if (first_line("/proc/sys/kernel/io_uring_disabled") != "0" && why == EPERM) {
    return bad("io_uring", "disabled by sysctl", "sysctl -w kernel.io_uring_disabled=0");
  }
  return bad("io_uring", std::strerror(why), "allow io_uring_setup (seccomp profile, kernel with CONFIG_IO_URING=y)");
}

json check_capabilities() {
  std::ifstream status("/proc/self/status");
  uint64_t effective = 0;
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("CapEff:", 0) == 0) effective = std::stoull(line.substr(7), nullptr, 16);
  }
  // What the agent uses: maps and programs; cgroup attachment and sockets; setns; others' /proc/PID/ns.
  const std::pair<int, const char*> needed[] = {{CAP_BPF, "CAP_BPF"},
                                                {CAP_NET_ADMIN, "CAP_NET_ADMIN"},
                                                {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
                                                {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"}};
  std::string missing;
  for (const auto& [bit, name] : needed) {
    if ((effective >> bit & 1) == 0) missing += (missing.empty() ? "" : ", ") + std::string(name);
  }
  if (missing.empty()) return good("capabilities", "CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE");
  return bad("capabilities", "missing " + missing, "run as root, or give the container these capabilities");
}

json check_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const std::string detail = std::to_string(limit.rlim_max) + " at most";
  if (limit.rlim_max >= kFewDescriptors) return good("descriptors", detail);
  return warning("descriptors", detail,
                 "raise the hard limit: in a container it is the runtime's (LimitNOFILE of containerd.service or "
                 "crio.service); pods may use about half of it for their connections");
}

json check_pins(const std::string& bpf_dir) {
  const auto maps = interception::Maps::open(bpf_dir);
  if (!maps) return bad("maps", maps.error().message, "start the agent on this node");
  const auto pods = maps.value().pods();
  const auto services = maps.value().services();
  if (!pods || !services) return bad("maps", pods ? services.error().message : pods.error().message, "");
  return good("maps", std::to_string(services.value().size()) + " service addresses, " +
                          std::to_string(pods.value().size()) + " pods");
}

json check_programs(const std::string& bpf_dir) {
  const std::filesystem::path links = bpf_dir + "/v" + std::to_string(WEIR_ABI_VERSION) + "/links";
  std::error_code error;
  size_t count = 0;
  for (auto it = std::filesystem::directory_iterator(links, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    ++count;
  }
  if (error || count == 0)
    return bad("programs", "none attached below " + links.string(), "start the agent on this node");
  return good("programs", std::to_string(count) + " links pinned");
}

json check_brake(const std::string& bpf_dir) {
  const auto maps = interception::Maps::open(bpf_dir);
  if (!maps) return bad("brake", maps.error().message, "");
  const auto config = maps.value().config();
  if (config.ok() && (config.value().flags & WEIR_CONFIG_BYPASS)) {
    return warning("brake", "on for the whole node: nothing is diverted", "weirctl bypass off --node");
  }
  return good("brake", "off");
}

// Readiness, configuration and pods, as the agent says.
void check_agent(const std::string& run_dir, json& out) {
  const Agent agent(run_dir);
  const auto stats = agent.get(admin_api::kStats);
  if (!stats) {
    out.push_back(bad("agent", stats.error().message, ""));
    return;
  }
  const json& s = stats.value();
  out.push_back(s.value(key::ready, false) ? good("agent", "ready, version " + text_of(s, key::version))
                                           : bad("agent", "not ready: " + text_of(s, key::not_ready_reason),
                                                 "weirctl status; the agent's log"));
  if (const json redirect = s.value(key::redirect, json()); redirect.is_object()) {
    out.push_back(good("redirect in use", text_of(redirect, key::state) + ", " + text_of(redirect, key::reason)));
  }
  if (const json config = s.value(key::config, json()); config.is_object()) {
    const std::string age = human_duration(config.value(key::age_seconds, 0.0)) + " old";
    const auto errors = config[key::findings].value("error", 0), warnings = config[key::findings].value("warning", 0);
    if (errors + warnings > 0) {
      out.push_back(warning("configuration",
                            age + ", " + std::to_string(errors) + " errors, " + std::to_string(warnings) + " warnings",
                            "weirctl describe, or the findings in /config_dump"));
    } else {
      out.push_back(good("configuration", age));
    }
  }
  const auto pods = agent.get(admin_api::kPods);
  if (!pods) return;
  size_t enrolled = 0;
  std::string trouble;
  for (const json& pod : pods.value().value(key::pods, json::array())) {
    const std::string state = text_of(pod, key::state);
    enrolled += state == "enrolled";
    if (state == "failed" || state == "refused") {
      trouble += (trouble.empty() ? "" : "; ") + qualified_name(pod) + " " + state + ": " + text_of(pod, key::reason);
    }
  }
  out.push_back(trouble.empty() ? good("pods", std::to_string(enrolled) + " enrolled")
                                : warning("pods", trouble, "weirctl describe pod NAME"));
}

json run_checks(const Settings& settings, bool before_installation) {
  json checks = {check_kernel(), check_redirect(), check_btf(),          check_bpffs(settings.bpf_dir),
                 check_cgroup(), check_io_uring(), check_capabilities(), check_descriptors()};
  if (before_installation) return checks;
  checks.push_back(check_programs(settings.bpf_dir));
  checks.push_back(check_pins(settings.bpf_dir));
  checks.push_back(check_brake(settings.bpf_dir));
  check_agent(settings.run_dir, checks);
  return checks;
}

}  // namespace

std::string render_checks(const json& checks, bool wide, bool color) {
  Table table({{"CHECK"}, {"RESULT"}, {"DETAIL"}});
  std::string remedies;
  for (const json& one : checks) {
    const std::string result = text_of(one, "result");
    const Tone tone = result == "ok" ? Tone::good : result == "warning" ? Tone::warn : Tone::bad;
    table.add({text_of(one, key::name), Cell(result, tone), text_of(one, "detail")});
    if (const std::string remedy = text_of(one, "remedy"); !remedy.empty()) {
      remedies += "  " + text_of(one, key::name) + ": " + printable(remedy) + "\n";
    }
  }
  return table.render(wide, color) + (remedies.empty() ? "" : "\nTo do:\n" + remedies);
}

void add_check(CLI::App& app, Session& session) {
  auto before_installation = std::make_shared<bool>(false);
  CLI::App* command = add_command(app, session, "check", "Whether this machine can run weir, and whether it works",
                                  [&session, before_installation] {
                                    bool errors = false;
                                    const auto fetch = [&]() -> base::Result<json> {
                                      json checks = run_checks(session.settings, *before_installation);
                                      for (const json& one : checks)
                                        errors = errors || text_of(one, "result") == "error";
                                      return checks;
                                    };
                                    const int shown = show(session.settings, fetch, render_checks);
                                    return shown == kOk && errors ? static_cast<int>(kFindings) : shown;
                                  });
  command->add_flag("--pre", *before_installation, "Only what has to be so before installation");
}

}  // namespace weir::weirctl
