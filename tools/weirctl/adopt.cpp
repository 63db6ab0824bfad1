#include "weirctl/adopt.h"

#include <algorithm>
#include <cerrno>
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

constexpr char kClose[] = "close";    // to be closed
constexpr char kFailed[] = "failed";  // the agent could not
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

size_t count(const json& plan, const char* result) {
  return static_cast<size_t>(
      std::count_if(plan.begin(), plan.end(), [&](const json& row) { return row[key::result] == result; }));
}

std::string summary(const json& plan, bool dry_run) {
  const size_t done = count(plan, dry_run ? kClose : "closed");
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
  const Agent agent(settings.run_dir);
  const Close close = [&](const json& connection) {
    return agent.post(api::kAdopt, parameters_of(connection, options));
  };
  base::Result<void> done;
  if (options.yes) done = carry_out(plan, options.rate, close);
  const json adoption = {{"dry_run", !options.yes},
                         {key::connections, plan},
                         {key::problems, list.value().value(key::problems, json::array())}};
  std::cout << to_text(adoption, settings, render_adoption);
  std::cerr << summary(plan, !options.yes);
  if (!done) return fail(done.error().message);
  const size_t failed = count(plan, kFailed);
  return failed == 0 ? kOk : fail(std::to_string(failed) + " could not be closed, for the reasons above", kFindings);
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

base::Result<void> carry_out(json& plan, uint32_t rate, const Close& close) {
  steady_clock::time_point due = steady_clock::now();
  for (json& connection : plan) {
    if (connection[key::result] != kClose) continue;
    std::this_thread::sleep_until(due);
    due = steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(std::chrono::seconds(1)) / rate;
    const auto answer = close(connection);
    if (answer) {
      connection[key::result] = text_of(answer.value(), key::result);
      continue;
    }
    const base::Error& error = answer.error();
    if (error.code == EOPNOTSUPP || error.code == ECONNREFUSED) return error;
    connection[key::result] = kFailed;
    connection[key::error] = error.message;
  }
  return {};
}

std::string render_adoption(const json& adoption, bool wide, bool color) {
  Table table({{"POD"}, {"SERVICE"}, {"SOURCE"}, {"IDLE"}, {"RESULT"}});
  const bool dry_run = adoption.value("dry_run", true);
  for (const json& row : adoption[key::connections]) {
    const std::string result = text_of(row, key::result);
    const bool failed = result == kFailed;
    const bool left = !failed && result != kClose && result != "closed" && result != "gone";
    table.add({text_of(row, key::namespace_name) + "/" + text_of(row, key::pod),
               text_of(row, key::service) + ":" + text_of(row, key::port), text_of(row, key::source),
               human_duration(row.value(key::idle_seconds, 0.0)),
               Cell(failed             ? "failed: " + text_of(row, key::error)
                    : left             ? "left: " + result
                    : dry_run          ? "would be closed"
                    : result == kClose ? "not reached"
                                       : result,
                    failed ? Tone::bad
                    : left ? Tone::warn
                           : Tone::plain)});
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
