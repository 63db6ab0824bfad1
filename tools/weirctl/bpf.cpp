// weirctl bpf: what the kernel has, from the pinned maps; works with the agent dead. The names of
// services and pods come from the agent, as far as it answers.
#include <time.h>

#include "interception/maps.h"
#include "weir/admin_api.h"
#include "weirctl/agent.h"
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

const char* mode_name(uint32_t mode) {
  switch (mode) {
    case WEIR_MODE_L7:
      return "l7";
    case WEIR_MODE_DETECT:
      return "detect";
    case WEIR_MODE_TCP:
      return "tcp";
    default:
      return "none";
  }
}

double seconds_since(uint64_t ns) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9 - static_cast<double>(ns) / 1e9;
}

base::Result<json> services(const Maps& maps, const Agent& agent) {
  const auto rows = maps.services();
  if (!rows) return rows.error();
  const auto brakes = maps.brakes();
  if (!brakes) return brakes.error();
  const auto names = service_names(agent);
  json out = json::array();
  for (const auto& [address, row] : rows.value()) {
    json shown = to_json(address, row, brakes.value().services.contains(address));
    shown["service"] = name_or_empty(names, address.to_string());
    out.push_back(std::move(shown));
  }
  return out;
}

base::Result<json> pods(const Maps& maps, const Agent& agent) {
  const auto rows = maps.pods();
  if (!rows) return rows.error();
  const auto brakes = maps.brakes();
  if (!brakes) return brakes.error();
  const auto names = pod_names(agent);
  json out = json::array();
  for (const auto& [cookie, row] : rows.value()) {
    json shown = to_json(cookie, row, brakes.value().pods.contains(cookie));
    shown[key::pod] = name_or_empty(names, cookie);
    const auto heartbeat = maps.heartbeat(row.heartbeat);
    if (!heartbeat) return heartbeat.error();
    // Another generation: the agent has died, and the worker's slot belongs to another one now.
    if (heartbeat.value().generation == row.generation)
      shown["heartbeat_age_seconds"] = std::max(0.0, seconds_since(heartbeat.value().beat_ns));
    out.push_back(std::move(shown));
  }
  return out;
}

base::Result<json> flows(const Maps& maps, const Agent& agent) {
  const auto rows = maps.flows();
  if (!rows) return rows.error();
  const auto pods_by_cookie = pod_names(agent);
  const auto services_by_address = service_names(agent);
  json out = json::array();
  for (const interception::Flow& flow : rows.value()) {
    out.push_back({{"source", flow.source.to_string()},
                   {"destination", flow.destination.to_string()},
                   {key::mode, mode_name(flow.mode)},
                   {key::redirect, flow.redirected},
                   {key::age_seconds, seconds_since(flow.diverted_ns)},
                   {key::netns_cookie, flow.netns_cookie},
                   {key::pod, name_or_empty(pods_by_cookie, flow.netns_cookie)},
                   {"service", name_or_empty(services_by_address, flow.destination.to_string())}});
  }
  return out;
}

base::Result<json> stats(const Maps& maps, const Agent&) {
  const auto counters = maps.stats();
  if (!counters) return counters.error();
  json out = json::array();
  for (size_t i = 0; i < counters.value().size(); ++i) {
    out.push_back({{key::name, admin_api::kBpfStats[i].name},
                   {"count", counters.value()[i]},
                   {"meaning", admin_api::kBpfStats[i].help}});
  }
  return out;
}

}  // namespace

json to_json(const base::SocketAddress& address, const weir_service& row, bool brake) {
  return {{key::address, address.to_string()},
          {key::mode, mode_name(row.mode)},
          {"brake", brake},
          {"learns", (row.flags & WEIR_SERVICE_LEARNS) != 0},
          {"generation", row.generation}};
}

json to_json(uint64_t netns_cookie, const weir_pod& row, bool brake) {
  json addresses = json::array(), excluded = json::array();
  uint32_t v4 = 0;
  std::copy(std::begin(row.pod_ip4), std::end(row.pod_ip4), reinterpret_cast<uint8_t*>(&v4));
  if (v4 != 0) addresses.push_back(base::IpAddress::v4(v4).to_string());
  base::IpAddress v6;
  std::copy(std::begin(row.pod_ip6), std::end(row.pod_ip6), v6.bytes.begin());
  if (v6 != base::IpAddress{}) addresses.push_back(v6.to_string());
  for (const uint16_t port_be : row.excluded_ports_be) {
    if (port_be == 0) break;
    excluded.push_back(ntohs(port_be));
  }
  return {{key::netns_cookie, netns_cookie},
          {key::ips, std::move(addresses)},
          {key::listener_port, ntohs(row.listener_port_be)},
          {key::worker, row.worker},
          {"brake", brake},
          {"observe", (row.flags & WEIR_POD_OBSERVE) != 0},
          {"ipv6", (row.flags & WEIR_POD_IPV6) != 0},
          {key::fail_closed, (row.flags & WEIR_POD_FAIL_CLOSED) != 0},
          {key::redirect, (row.flags & WEIR_POD_REDIRECT) != 0},
          {key::excluded_ports, std::move(excluded)},
          {"generation", row.generation}};
}

std::string render_services(const json& rows, bool wide, bool color) {
  Table table({{"ADDRESS"}, {"MODE"}, {"BRAKE"}, {"SERVICE"}, {"GENERATION", true}});
  for (const json& row : rows) {
    table.add({text_of(row, key::address), text_of(row, key::mode),
               row.value("brake", false) ? Cell("on", Tone::warn) : Cell("off"), text_of(row, "service"),
               text_of(row, "generation")});
  }
  return table.render(wide, color);
}

std::string render_pods(const json& rows, bool wide, bool color) {
  Table table({{"NETNS"},
               {"POD"},
               {"IP"},
               {"LISTENER"},
               {"WORKER"},
               {"HEARTBEAT"},
               {"STATE"},
               {"EXCLUDED PORTS", true},
               {"FAIL CLOSED", true},
               {"REDIRECT", true},
               {"GENERATION", true}});
  for (const json& row : rows) {
    std::string ips, excluded;
    for (const json& ip : row[key::ips]) ips += (ips.empty() ? "" : ",") + ip.get<std::string>();
    for (const json& port : row[key::excluded_ports]) excluded += (excluded.empty() ? "" : ",") + port.dump();
    const Cell state = row.value("brake", false)     ? Cell("brake", Tone::warn)
                       : row.value("observe", false) ? Cell("observe", Tone::warn)
                                                     : Cell("diverting", Tone::good);
    const double age = row.value("heartbeat_age_seconds", -1.0);
    const Cell heartbeat = age < 0   ? Cell("none", Tone::warn)
                           : age > 1 ? Cell(human_duration(age), Tone::warn)
                                     : Cell(human_duration(age));
    table.add({text_of(row, key::netns_cookie), text_of(row, key::pod), ips, text_of(row, key::listener_port),
               text_of(row, key::worker), heartbeat, state, excluded, row.value(key::fail_closed, false) ? "yes" : "no",
               row.value(key::redirect, false) ? "yes" : "no", text_of(row, "generation")});
  }
  return table.render(wide, color);
}

std::string render_flows(const json& rows, bool wide, bool color) {
  Table table({{"SOURCE"}, {"DESTINATION"}, {"MODE"}, {"PATH"}, {"AGE"}, {"POD"}, {"SERVICE"}, {"NETNS", true}});
  for (const json& row : rows) {
    table.add({text_of(row, "source"), text_of(row, "destination"), text_of(row, key::mode),
               row.value(key::redirect, false) ? "redirect" : "tcp", human_duration(row.value(key::age_seconds, 0.0)),
               text_of(row, key::pod), text_of(row, "service"), text_of(row, key::netns_cookie)});
  }
  return table.render(wide, color);
}

std::string render_bpf_stats(const json& rows, bool wide, bool color) {
  Table table({{"NAME"}, {"COUNT"}, {"MEANING"}});
  for (const json& row : rows) {
    table.add({text_of(row, key::name), text_of(row, "count"), text_of(row, "meaning")});
  }
  return table.render(wide, color);
}

void add_bpf(CLI::App& app, Session& session) {
  CLI::App* bpf = app.add_subcommand("bpf", "The pinned BPF maps, also with the agent dead");
  bpf->fallthrough();
  bpf->require_subcommand(1);
  using Fetch = base::Result<json> (*)(const Maps&, const Agent&);
  const auto add = [&](const char* name, const char* help, Fetch fetch, const Render& render) {
    add_command(*bpf, session, name, help, [&session, fetch, render] {
      const auto maps = Maps::open(session.settings.bpf_dir);
      if (!maps) return fail(maps.error().message);
      // It only adds names: an agent that hangs must not keep us from the maps.
      const Agent agent(session.settings.run_dir, std::chrono::seconds(1));
      return show(
          session.settings, [&] { return fetch(maps.value(), agent); }, render);
    });
  };
  add("services", "Service addresses that are diverted, and how", services, render_services);
  add("pods", "Pods whose connections are diverted", pods, render_pods);
  add("flows", "Live diverted connections", flows, render_flows);
  add("stats", "What the BPF programs counted", stats, render_bpf_stats);
}

}  // namespace weir::weirctl
