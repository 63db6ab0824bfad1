// weirctl log, drain, metrics, version: small things asked of the agent.
#include <iostream>

#include "weir/admin_api.h"
#include "weirctl/agent.h"
#include "weirctl/commands.h"
#include "weirctl/names.h"
#include "weirctl/output.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;

struct LogLevels {
  std::string level, access_log;
};

int set_levels(const Settings& settings, const LogLevels& levels) {
  Parameters parameters;
  if (!levels.level.empty()) parameters["level"] = levels.level;
  if (!levels.access_log.empty()) parameters["access_log"] = levels.access_log;
  const auto set = Agent(settings.run_dir).post(admin_api::kLogging, parameters);
  return set ? kOk : fail(set.error().message);
}

int drain(const Settings& settings) {
  const auto begun = Agent(settings.run_dir).post(admin_api::kDrain);
  if (!begun) return fail(begun.error().message);
  std::cerr << "The agent drains: running RPCs finish, new connections go the plain way, then it ends.\n";
  return kOk;
}

int metrics(const Settings& settings) {
  const auto text = Agent(settings.run_dir).get_text(admin_api::kMetrics);
  if (!text) return fail(text.error().message);
  std::cout << text.value();
  return kOk;
}

int version(const Settings& settings) {
  const auto stats = Agent(settings.run_dir).get(admin_api::kStats);
  const json versions = {{"weirctl", WEIR_VERSION},
                         {"abi", WEIR_ABI_VERSION},
                         {"agent", stats ? json(text_of(stats.value(), admin_api::key::version)) : json(nullptr)}};
  std::cout << to_text(versions, settings, [](const json& data, bool, bool) {
    const std::string agent = text_of(data, "agent");
    return "weirctl " + text_of(data, "weirctl") + " (BPF ABI " + text_of(data, "abi") + ")\nagent   " +
           (agent.empty() ? "does not answer" : agent) + "\n";
  });
  return kOk;
}

}  // namespace

void add_control(CLI::App& app, Session& session) {
  auto levels = std::make_shared<LogLevels>();
  CLI::App* log = add_command(app, session, "log", "Change what the running agent logs",
                              [&session, levels] { return set_levels(session.settings, *levels); });
  log->add_option("--level", levels->level, "Of the agent's own log")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}));
  log->add_option("--access-log", levels->access_log, "Which RPCs the access log has")
      ->check(CLI::IsMember({"all", "failed", "off"}));
  log->require_option(1, 2);
  add_command(app, session, "drain", "End the agent when its RPCs have finished",
              [&session] { return drain(session.settings); });
  add_command(app, session, "metrics", "The agent's metrics, as Prometheus reads them",
              [&session] { return metrics(session.settings); });
  add_command(app, session, "version", "Versions of weirctl and of the agent",
              [&session] { return version(session.settings); });
}

}  // namespace weir::weirctl
