#include "weirctl/bypass.h"

#include <fcntl.h>
#include <sys/file.h>

#include <iostream>

#include "base/fd.h"
#include "weir/admin_api.h"
#include "weirctl/commands.h"
#include "weirctl/maps_json.h"
#include "weirctl/names.h"
#include "weirctl/output.h"
#include "weirctl/table.h"
#include "weirctl/targets.h"
#include "weirctl/views.h"

namespace weir::weirctl {
namespace {

using interception::Maps;
using nlohmann::json;
namespace key = admin_api::key;

uint32_t with_flag(uint32_t flags, uint32_t flag, bool on) { return on ? flags | flag : flags & ~flag; }

// `config` is read and written back, and only by weirctl: one at a time.
base::Result<base::Fd> lock(const Settings& settings) {
  base::Fd folder(::open(settings.bpf_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || flock(folder.get(), LOCK_EX) != 0) return base::system_error("lock " + settings.bpf_dir, errno);
  return folder;
}

base::Result<void> set_flag(Maps& maps, uint32_t flag, bool on) {
  auto config = maps.config();
  if (!config) return config.error();
  config->flags = with_flag(config->flags, flag, on);
  return maps.set_config(*config);
}

base::Result<bool> has_row(const Maps& maps, uint64_t netns_cookie) {
  const auto row = maps.pod(netns_cookie);
  if (!row) return row.error();
  return row.value().has_value();
}

base::Result<bool> has_row(const Maps& maps, const base::SocketAddress& address) {
  const auto row = maps.service(address);
  if (!row) return row.error();
  return row.value().has_value();
}

// The brake of one pod or address. False: it is not diverted, and had no brake. An agent removes a row, then its brake:
// to look for the row after the brake is set leaves none behind.
template <class Key>
base::Result<bool> brake_one(Maps& maps, const Key& key, bool on) {
  const auto before = maps.brake(key);
  if (!before) return before.error();
  if (before.value() != on)
    if (auto set = maps.set_brake(key, on); !set) return set.error();
  if (before.value()) return true;
  auto row = has_row(maps, key);
  if (row.ok() && !row.value() && on)
    if (auto removed = maps.set_brake(key, false); !removed) return removed.error();
  return row;
}

// A pod's brake outlasts its row while there is no agent.
base::Result<uint64_t> braked_cookie_of(const Maps& maps, const Settings& settings, const std::string& pod) {
  const auto brakes = maps.brakes();
  if (!brakes) return brakes.error();
  for (const uint64_t cookie : brakes.value().pods)
    if (pod == std::to_string(cookie)) return cookie;
  return cookie_of(maps, settings, pod);
}

base::Result<void> brake_pod(Maps& maps, const Settings& settings, const std::string& pod, bool on) {
  const auto cookie = braked_cookie_of(maps, settings, pod);
  if (!cookie) return cookie.error();
  const auto found = brake_one(maps, cookie.value(), on);
  if (!found) return found.error();
  if (!found.value()) return base::Error{"pod " + pod + " has no row in the BPF map: it is not diverted anyway"};
  return {};
}

base::Result<void> brake_service(Maps& maps, const Settings& settings, const std::string& text, bool on) {
  const auto addresses = addresses_of(settings, text);
  if (!addresses) return addresses.error();
  bool found_any = false;
  for (const base::SocketAddress& address : addresses.value()) {
    const auto found = brake_one(maps, address, on);
    if (!found) return found.error();
    found_any |= found.value();
  }
  if (!found_any) return base::Error{text + " has no row in the BPF map: it is not diverted anyway"};
  return {};
}

int run_brake(const Settings& settings, const BrakeTarget& target, bool on) {
  auto maps = Maps::open(settings.bpf_dir);
  if (!maps) return fail(maps.error().message);
  if (auto done = set_brake(*maps, settings, target, on); !done) return fail(done.error().message);
  const std::string what = target.node ? "this node" : !target.pod.empty() ? "pod " + target.pod : target.service;
  std::cerr << (on ? "New connections of " + what +
                         " go the plain way. Those that are diverted stay so until they end.\n"
                   : "New connections of " + what + " are diverted again.\n");
  return kOk;
}

}  // namespace

base::Result<void> set_brake(Maps& maps, const Settings& settings, const BrakeTarget& target, bool on) {
  const auto locked = lock(settings);
  if (!locked) return locked.error();
  if (target.node) return set_flag(maps, WEIR_CONFIG_BYPASS, on);
  // The hook looks for brakes only with this flag: it stands whenever there is one.
  if (on)
    if (auto set = set_flag(maps, WEIR_CONFIG_BRAKES, true); !set) return set;
  auto done = target.pod.empty() ? brake_service(maps, settings, target.service, on)
                                 : brake_pod(maps, settings, target.pod, on);
  const auto left = maps.brakes();
  if (!left) return left.error();
  if (left.value().pods.empty() && left.value().services.empty())
    if (auto set = set_flag(maps, WEIR_CONFIG_BRAKES, false); !set) return set;
  return done;
}

base::Result<json> brakes(const Maps& maps) {
  const auto config = maps.config();
  if (!config) return config.error();
  json out = {{"node", (config.value().flags & WEIR_CONFIG_BYPASS) != 0},
              {key::pods, json::array()},
              {key::services, json::array()}};
  const auto on = maps.brakes();
  if (!on) return on.error();
  for (const uint64_t cookie : on.value().pods) {
    const auto row = maps.pod(cookie);
    if (!row) return row.error();
    out[key::pods].push_back(to_json(cookie, row.value().value_or(weir_pod{}), true));
  }
  for (const base::SocketAddress& address : on.value().services) {
    const auto row = maps.service(address);
    if (!row) return row.error();
    out[key::services].push_back(to_json(address, row.value().value_or(weir_service{}), true));
  }
  return out;
}

std::string render_brakes(const json& brakes, bool wide, bool color) {
  Table table({{"SCOPE"}, {"NAME"}, {"BRAKE"}});
  const bool node = brakes.value("node", false);
  table.add({"node", "", node ? Cell("on", Tone::warn) : Cell("off")});
  for (const json& pod : brakes[key::pods]) {
    const json& ips = pod[key::ips];
    table.add(
        {"pod", ips.empty() ? text_of(pod, key::netns_cookie) : ips[0].get<std::string>(), Cell("on", Tone::warn)});
  }
  for (const json& service : brakes[key::services]) {
    table.add({"service", text_of(service, key::address), Cell("on", Tone::warn)});
  }
  return table.render(wide, color);
}

void add_bypass(CLI::App& app, Session& session) {
  CLI::App* bypass =
      app.add_subcommand("bypass", "The brake: new connections go the plain way, with the agent alive or dead");
  bypass->fallthrough();
  bypass->require_subcommand(1);
  auto target = std::make_shared<BrakeTarget>();
  for (const bool on : {true, false}) {
    CLI::App* command = add_command(*bypass, session, on ? "on" : "off", on ? "Pull the brake" : "Let it go",
                                    [&session, target, on] { return run_brake(session.settings, *target, on); });
    CLI::Option_group* scope = command->add_option_group("scope");
    scope->add_flag("--node", target->node, "The whole node");
    scope->add_option("--pod", target->pod, "POD[.NAMESPACE]; its IP or netns cookie with the agent dead");
    scope->add_option("--service", target->service, "SERVICE[.NAMESPACE]:PORT; CLUSTER-IP:PORT with the agent dead");
    scope->require_option(1);
  }
  add_command(*bypass, session, "list", "Where the brake is on", [&session] {
    const auto maps = Maps::open(session.settings.bpf_dir);
    if (!maps) return fail(maps.error().message);
    return show(
        session.settings, [&] { return brakes(maps.value()); }, render_brakes);
  });
}

}  // namespace weir::weirctl
