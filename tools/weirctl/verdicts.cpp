// weirctl verdicts: what has been learned about ports that declare nothing, from the pinned map; works with the agent
// dead.
#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "interception/maps.h"
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

// Empty: all.
struct Which {
  std::string pod, service;
};

double seconds_until(uint64_t ns) {
  return static_cast<double>(ns) / 1e9 -
         std::chrono::duration<double>(base::MonotonicClock::now().time_since_epoch()).count();
}

base::Result<json> list(const Maps& maps, const Agent& agent) {
  const auto verdicts = maps.verdicts();
  if (!verdicts) return verdicts.error();
  const auto pods = pod_names(agent);
  const auto services = service_names(agent);
  json out = json::array();
  for (const Maps::Verdict& verdict : verdicts.value()) {
    json shown = to_json(verdict);
    if (shown.is_null()) continue;
    shown[key::pod] = name_or_empty(pods, verdict.netns_cookie);
    shown["service"] = name_or_empty(services, verdict.vip.to_string());
    out.push_back(std::move(shown));
  }
  return out;
}

int clear(const Settings& settings, const Which& which) {
  const auto maps = Maps::open(settings.bpf_dir);
  if (!maps) return fail(maps.error().message);
  uint64_t cookie = 0;
  std::optional<std::vector<base::SocketAddress>> addresses;  // none: all
  if (!which.pod.empty()) {
    const auto found = cookie_of(maps.value(), settings, which.pod);
    if (!found) return fail(found.error().message);
    cookie = found.value();
  }
  if (!which.service.empty()) {
    const auto found = addresses_of(settings, which.service);
    if (!found) return fail(found.error().message);
    addresses = found.value();
  }
  const auto verdicts = maps.value().verdicts();
  if (!verdicts) return fail(verdicts.error().message);
  size_t cleared = 0;
  for (const auto& [of_pod, vip, row] : verdicts.value()) {
    if (cookie != 0 && of_pod != cookie) continue;
    if (addresses && std::find(addresses->begin(), addresses->end(), vip) == addresses->end()) continue;
    if (auto removed = maps.value().remove_verdict(of_pod, vip); !removed) return fail(removed.error().message);
    ++cleared;
  }
  std::cerr << cleared << (cleared == 1 ? " verdict" : " verdicts")
            << " cleared: the next connections are looked at again.\n";
  return kOk;
}

}  // namespace

json to_json(const Maps::Verdict& verdict) {
  const double left = seconds_until(verdict.row.expires_ns);
  if (left <= 0) return nullptr;
  return {{key::netns_cookie, verdict.netns_cookie},
          {key::address, verdict.vip.to_string()},
          {"expires_in_seconds", left},
          {"connections", verdict.row.connections},
          {"sample_every", verdict.row.sample_every}};
}

std::string render_verdicts(const json& rows, bool wide, bool color) {
  Table table({{"POD"}, {"ADDRESS"}, {"SERVICE"}, {"EXPIRES IN"}, {"CONNECTIONS"}, {"SAMPLED"}, {"NETNS", true}});
  for (const json& row : rows) {
    const auto every = row.value("sample_every", uint64_t{0});
    table.add({text_of(row, key::pod), text_of(row, key::address), text_of(row, "service"),
               human_duration(row.value("expires_in_seconds", 0.0)), text_of(row, "connections"),
               every == 0 ? "none" : "1 in " + std::to_string(every), text_of(row, key::netns_cookie)});
  }
  return table.render(wide, color);
}

void add_verdicts(CLI::App& app, Session& session) {
  CLI::App* verdicts = app.add_subcommand(
      "verdicts", "What was learned of undeclared ports: connections that pass by the agent, for a while");
  verdicts->fallthrough();
  verdicts->require_subcommand(1);
  add_command(*verdicts, session, "list", "Those that hold", [&session] {
    const auto maps = Maps::open(session.settings.bpf_dir);
    if (!maps) return fail(maps.error().message);
    const Agent agent(session.settings.run_dir, std::chrono::seconds(1));
    return show(
        session.settings, [&] { return list(maps.value(), agent); }, render_verdicts);
  });
  auto which = std::make_shared<Which>();
  CLI::App* command = add_command(*verdicts, session, "clear", "Forget them: all, or those of a pod or service",
                                  [&session, which] { return clear(session.settings, *which); });
  command->add_option("--pod", which->pod, "POD[.NAMESPACE]; its IP or netns cookie with the agent dead");
  command->add_option("--service", which->service, "SERVICE[.NAMESPACE]:PORT; CLUSTER-IP:PORT with the agent dead");
}

}  // namespace weir::weirctl
