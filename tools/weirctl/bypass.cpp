#include "weirctl/bypass.h"

#include <algorithm>
#include <iostream>

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

base::Result<void> brake_node(Maps& maps, bool on) {
  auto config = maps.config();
  if (!config) return config.error();
  config->flags = with_flag(config->flags, WEIR_CONFIG_BYPASS, on);
  return maps.set_config(*config);
}

base::Result<void> brake_pod(Maps& maps, const Settings& settings, const std::string& pod, bool on) {
  const auto cookie = cookie_of(maps, settings, pod);
  if (!cookie) return cookie.error();
  auto row = maps.pod(cookie.value());
  if (!row) return row.error();
  if (!row.value()) return base::Error{"pod " + pod + " has no row in the BPF map: it is not diverted anyway"};
  weir_pod changed = *row.value();
  changed.flags = with_flag(changed.flags, WEIR_POD_BYPASS, on);
  return maps.set_pod(cookie.value(), changed);
}

base::Result<void> brake_service(Maps& maps, const Settings& settings, const std::string& text, bool on) {
  const auto addresses = addresses_of(settings, text);
  if (!addresses) return addresses.error();
  const auto rows = maps.services();
  if (!rows) return rows.error();
  bool found = false;
  for (const auto& [address, row] : rows.value()) {
    if (std::find(addresses.value().begin(), addresses.value().end(), address) == addresses.value().end()) continue;
    weir_service changed = row;
    changed.flags = with_flag(changed.flags, WEIR_SERVICE_BYPASS, on);
    if (auto set = maps.set_service(address, changed); !set) return set;
    found = true;
  }
  if (!found) return base::Error{text + " has no row in the BPF map: it is not diverted anyway"};
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
  if (target.node) return brake_node(maps, on);
  if (!target.pod.empty()) return brake_pod(maps, settings, target.pod, on);
  return brake_service(maps, settings, target.service, on);
}

base::Result<json> brakes(const Maps& maps) {
  const auto config = maps.config();
  if (!config) return config.error();
  json out = {{"node", (config.value().flags & WEIR_CONFIG_BYPASS) != 0},
              {key::pods, json::array()},
              {key::services, json::array()}};
  const auto pods = maps.pods();
  if (!pods) return pods.error();
  for (const auto& [cookie, row] : pods.value()) {
    if (row.flags & WEIR_POD_BYPASS) out[key::pods].push_back(to_json(cookie, row));
  }
  const auto services = maps.services();
  if (!services) return services.error();
  for (const auto& [address, row] : services.value()) {
    if (row.flags & WEIR_SERVICE_BYPASS) out[key::services].push_back(to_json(address, row));
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
