#include "weirctl/adopt.h"

#include <chrono>
#include <iostream>
#include <map>
#include <thread>

#include "weir/admin_api.h"
#include "weirctl/agent.h"
#include "weirctl/commands.h"
#include "weirctl/names.h"
#include "weirctl/output.h"
#include "weirctl/table.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
namespace api = admin_api;
namespace key = admin_api::key;
using std::chrono::steady_clock;

constexpr char kClose[] = "close";
const CLI::AsNumberWithUnit kDurationInMs(std::map<std::string, int64_t>{
    {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}});

bool is_idle(const json& connection, int64_t min_idle_ms) {
  return connection.value(key::unread_bytes, uint64_t{0}) == 0 &&
         connection.value(key::unacknowledged_bytes, uint64_t{0}) == 0 &&
         connection.value(key::idle_seconds, 0.0) * 1000 >= static_cast<double>(min_idle_ms);
}

Parameters parameters_of(const json& connection, const AdoptOptions& options) {
  Parameters parameters{{"uid", text_of(connection, key::uid)},
                        {"source", text_of(connection, key::source)},
                        {"destination", text_of(connection, key::destination)},
                        {"cookie", text_of(connection, key::cookie)}};
  if (options.active)
    parameters["active"] = "1";
  else
    parameters["min_idle_ms"] = std::to_string(options.min_idle_ms);
  return parameters;
}

// Closes what the plan has to be closed, and writes into it what became of each.
base::Result<void> carry_out(const Settings& settings, const AdoptOptions& options, json& plan) {
  const Agent agent(settings.run_dir);
  steady_clock::time_point due = steady_clock::now();
  for (json& connection : plan) {
    if (connection[key::result] != kClose) continue;
    std::this_thread::sleep_until(due);
    due = steady_clock::now() +
          std::chrono::duration_cast<steady_clock::duration>(std::chrono::seconds(1)) / options.rate;
    const auto answer = agent.post(api::kAdopt, parameters_of(connection, options));
    if (!answer) return answer.error();
    connection[key::result] = text_of(answer.value(), key::result);
  }
  return {};
}

std::string summary(const json& plan, bool dry_run) {
  size_t done = 0;
  for (const json& connection : plan) done += connection[key::result] == (dry_run ? kClose : "closed");
  const std::string counted = std::to_string(done) + " of " + std::to_string(plan.size()) + " connections";
  return dry_run ? "Nothing has been closed. --yes closes " + counted + ", in this order.\n"
                 : counted + " closed; their clients dial again.\n";
}

int adopt(const Settings& settings, const AdoptOptions& options) {
  if (!options.node && options.scope.pod.empty() && options.scope.service.empty() && settings.namespace_name.empty())
    return fail("say whose connections: --pod, --service, -n NAMESPACE, or --node for all", kUsage);
  const auto list = fetch_unmanaged(settings, options.scope);
  if (!list) return fail(list.error().message);
  json plan = plan_adoption(list.value()[key::connections], options);
  base::Result<void> done;
  if (options.yes) done = carry_out(settings, options, plan);
  const json adoption = {{"dry_run", !options.yes},
                         {key::connections, plan},
                         {key::problems, list.value().value(key::problems, json::array())}};
  std::cout << to_text(adoption, settings, render_adoption);
  std::cerr << summary(plan, !options.yes);
  return done ? kOk : fail(done.error().message);
}

}  // namespace

json plan_adoption(const json& connections, const AdoptOptions& options) {
  json plan = json::array();
  uint32_t closing = 0;
  for (const json& connection : connections) {
    json& planned = plan.emplace_back(connection);
    if (!options.active && !is_idle(connection, options.min_idle_ms)) {
      planned[key::result] = "active";
    } else if (text_of(connection, key::mode) != "l7" && options.scope.service.empty()) {
      // Most likely not HTTP/2: its client would be cut off for nothing. Whoever names the service knows.
      planned[key::result] = "undeclared";
    } else if (closing == options.limit) {
      planned[key::result] = "limit";
    } else {
      ++closing;
      planned[key::result] = kClose;
    }
  }
  return plan;
}

std::string render_adoption(const json& adoption, bool wide, bool color) {
  Table table({{"POD"}, {"SERVICE"}, {"SOURCE"}, {"IDLE"}, {"RESULT"}});
  const bool dry_run = adoption.value("dry_run", true);
  for (const json& row : adoption[key::connections]) {
    const std::string result = text_of(row, key::result);
    const bool left = result != kClose && result != "closed" && result != "gone";
    table.add({text_of(row, key::namespace_name) + "/" + text_of(row, key::pod),
               text_of(row, key::service) + ":" + text_of(row, key::port), text_of(row, key::source),
               human_duration(row.value(key::idle_seconds, 0.0)),
               Cell(left               ? "left: " + result
                    : dry_run          ? "would be closed"
                    : result == kClose ? "not reached"
                                       : result,
                    left ? Tone::warn : Tone::plain)});
  }
  std::string out = table.empty() ? "" : table.render(wide, color);
  for (const json& problem : adoption.value(key::problems, json::array()))
    out += toned(printable(problem.get<std::string>()), Tone::bad, color) + "\n";
  return out;
}

void add_adopt(CLI::App& app, Session& session) {
  auto options = std::make_shared<AdoptOptions>();
  CLI::App* command =
      add_command(app, session, "adopt", "Close connections that go past weir, so that clients dial again",
                  [&session, options] { return adopt(session.settings, *options); });
  command->add_option("--pod", options->scope.pod, "Those of POD[.NAMESPACE] of this node");
  command->add_option("--service", options->scope.service, "Those to SERVICE[.NAMESPACE]");
  command->add_flag("--node", options->node, "Those of all pods of this node");
  command->add_flag("-y,--yes", options->yes, "Close them; without it they are only listed");
  command->add_flag("--active", options->active, "Those in use, too: what is under way on them fails");
  command->add_option("--min-idle", options->min_idle_ms, "Only those that nothing went through for so long")
      ->transform(kDurationInMs)
      ->check(CLI::Range(int64_t{0}, int64_t{UINT32_MAX}))
      ->default_str("5s");
  command->add_option("--limit", options->limit, "Close at most so many")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--rate", options->rate, "So many a second")->check(CLI::Range(1, 1000))->capture_default_str();
}

}  // namespace weir::weirctl
