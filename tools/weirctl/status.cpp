// weirctl status: the agent in a few lines, a line per worker.
#include <chrono>
#include <cstdio>
#include <map>
#include <optional>
#include <thread>

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
namespace api = admin_api;
namespace key = admin_api::key;

constexpr char kRps[] = "rps";
constexpr auto kRateOver = std::chrono::seconds(1);

// {"enrolled": 3, "failed": 1}
json count_by_state(const json& pods) {
  json counts = json::object();
  for (const json& pod : pods) {
    const std::string state = text_of(pod, key::state);
    counts[state] = counts.value(state, 0) + 1;
  }
  return counts;
}

uint64_t unmanaged_of(const json& pods) {
  uint64_t sum = 0;
  for (const json& pod : pods) sum += pod.value(key::unmanaged_connections, uint64_t{0});
  return sum;
}

std::string listed(const json& counts) {
  std::string out;
  for (const auto& [name, count] : counts.items()) {
    if (count == 0) continue;
    out += (out.empty() ? "" : ", ") + count.dump() + " " + name;
  }
  return out.empty() ? "none" : out;
}

base::Result<json> fetch(const Agent& agent, std::optional<json>& before) {
  if (!before) {
    auto first = agent.get(api::kStats);
    if (!first) return first.error();
    before = first.value();
    std::this_thread::sleep_for(kRateOver);
  }
  auto stats = agent.get(api::kStats);
  if (!stats) return stats.error();
  auto pods = agent.get(api::kPods);
  if (!pods) return pods.error();
  json now = stats.value();
  add_rates(*before, now);
  before = stats.value();
  now[key::pods] = count_by_state(pods.value()[key::pods]);
  now[key::unmanaged_connections] = unmanaged_of(pods.value()[key::pods]);
  return now;
}

}  // namespace

void add_rates(const json& before, json& now) {
  const double seconds = (now[key::time_ns].get<double>() - before[key::time_ns].get<double>()) / 1e9;
  std::map<uint64_t, double> earlier;
  for (const json& worker : before[key::workers]) earlier[worker[key::index]] = worker[key::rpcs_total];
  for (json& worker : now[key::workers]) {
    const auto known = earlier.find(worker[key::index]);
    // An agent that was restarted in between counts from zero again.
    const double rpcs = known == earlier.end() ? 0 : worker[key::rpcs_total].get<double>() - known->second;
    worker[kRps] = seconds > 0 && rpcs > 0 ? rpcs / seconds : 0.0;
  }
}

std::string render_status(const json& stats, bool wide, bool color) {
  std::string out = "Agent:    " + text_of(stats, key::version);
  if (const std::string node = text_of(stats, key::node); !node.empty()) out += " on " + printable(node);
  out += ", pid " + text_of(stats, key::pid) + ", up " + human_duration(stats.value(key::uptime_seconds, 0.0)) + ", ";
  if (stats.value(key::draining, false)) {
    out += toned("draining", Tone::warn, color);
  } else if (stats.value(key::ready, false)) {
    out += toned("ready", Tone::good, color);
  } else {
    out += toned("not ready: " + printable(text_of(stats, key::not_ready_reason)), Tone::bad, color);
  }
  out += "\nConfig:   ";
  if (const json config = stats.value(key::config, json()); config.is_object()) {
    out += "revision " + text_of(config, key::revision) + ", " + human_duration(config.value(key::age_seconds, 0.0)) +
           " old, " + text_of(config, key::services) + " services, " + text_of(config, key::pods) +
           " pods, findings: " + listed(config.value(key::findings, json::object()));
  } else {
    out += "none yet";
  }
  for (const json& source : stats.value(key::sources, json::array())) {
    out += "\nSource:   " + printable(text_of(source, key::name)) + ": " + printable(text_of(source, key::state));
  }
  if (const json redirect = stats.value(key::redirect, json()); redirect.is_object()) {
    out += "\nRedirect: " + text_of(redirect, key::state) + ", " + printable(text_of(redirect, key::reason));
  }
  out += "\nPods:     " + listed(stats.value(key::pods, json::object()));
  if (const auto unmanaged = stats.value(key::unmanaged_connections, uint64_t{0}); unmanaged > 0) {
    out += "\nUnmanaged: " + toned(std::to_string(unmanaged), Tone::warn, color) +
           " (connections that go past weir: weirctl unmanaged, adopt)";
  }
  out += "\n\n";
  Table table({{"WORKER"},
               {"PODS"},
               {"DOWNSTREAM"},
               {"UPSTREAM"},
               {"TCP RELAYS"},
               {"ACTIVE RPCS"},
               {"RPS"},
               {"RPCS TOTAL", true}});
  for (const json& worker : stats.value(key::workers, json::array())) {
    char rps[32];
    std::snprintf(rps, sizeof rps, "%.0f", worker.value(kRps, 0.0));
    table.add({text_of(worker, key::index), text_of(worker, key::pods), text_of(worker, key::downstream_connections),
               text_of(worker, key::upstream_connections), text_of(worker, key::tcp_relays),
               text_of(worker, key::active_rpcs), rps, text_of(worker, key::rpcs_total)});
  }
  return out + table.render(wide, color);
}

void add_status(CLI::App& app, Session& session) {
  add_command(app, session, "status", "The agent: configuration, pods, connections, RPCs a second", [&session] {
    const Agent agent(session.settings.run_dir);
    std::optional<json> before;
    return show(
        session.settings, [&] { return fetch(agent, before); }, render_status);
  });
}

}  // namespace weir::weirctl
