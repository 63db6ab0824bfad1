#include "weirctl/unmanaged.h"

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

// A crowded node's pods are listed in a second or two.
constexpr auto kPatience = std::chrono::seconds(60);

}  // namespace

base::Result<json> fetch_unmanaged(const Settings& settings, const UnmanagedScope& scope) {
  const Agent agent(settings.run_dir, kPatience);
  Parameters parameters;
  if (!settings.namespace_name.empty()) parameters["namespace"] = settings.namespace_name;
  if (!scope.pod.empty()) {
    const auto pods = agent.get(api::kPods);
    if (!pods) return pods.error();
    const auto pod =
        find_one(pods.value().value(key::pods, json::array()), scope.pod, settings.namespace_name, "pod of this node");
    if (!pod) return pod.error();
    parameters["pod"] = qualified_name(pod.value());
  }
  if (!scope.service.empty()) {
    const auto services = agent.get(api::kServices);
    if (!services) return services.error();
    const auto service = find_one(services.value().value(key::services, json::array()), scope.service, "", "service");
    if (!service) return service.error();
    parameters["service"] = qualified_name(service.value());
  }
  return agent.get(api::kUnmanaged, parameters);
}

std::string render_unmanaged(const json& list, bool wide, bool color) {
  Table table({{"POD"},
               {"SERVICE"},
               {"SOURCE"},
               {"IDLE"},
               {"DESTINATION", true},
               {"MODE", true},
               {"SENT", true},
               {"RECEIVED", true},
               {"UNREAD", true},
               {"UNACKNOWLEDGED", true}});
  for (const json& row : list[key::connections]) {
    const std::string idle = human_duration(row.value(key::idle_seconds, 0.0));
    table.add({text_of(row, key::namespace_name) + "/" + text_of(row, key::pod),
               text_of(row, key::service) + ":" + text_of(row, key::port), text_of(row, key::source),
               row.value(key::half_closed, false) ? idle + ", half-closed" : idle, text_of(row, key::destination),
               text_of(row, key::mode), text_of(row, key::bytes_sent), text_of(row, key::bytes_received),
               text_of(row, key::unread_bytes), text_of(row, key::unacknowledged_bytes)});
  }
  std::string out =
      table.empty() ? "No connection goes past weir that would be diverted now.\n" : table.render(wide, color);
  if (list.value(key::truncated, false))
    out += toned("There are more: ask for a pod or a service.", Tone::warn, color) + "\n";
  for (const json& problem : list.value(key::problems, json::array()))
    out += toned(printable(problem.get<std::string>()), Tone::bad, color) + "\n";
  return out;
}

void add_unmanaged(CLI::App& app, Session& session) {
  auto scope = std::make_shared<UnmanagedScope>();
  CLI::App* command =
      add_command(app, session, "unmanaged", "Connections that go past weir: older than the pod's enrolment, mostly",
                  [&session, scope] {
                    return show(
                        session.settings, [&] { return fetch_unmanaged(session.settings, *scope); }, render_unmanaged);
                  });
  command->add_option("pod", scope->pod, "POD[.NAMESPACE] of this node");
  command->add_option("--service", scope->service, "Only those to SERVICE[.NAMESPACE]");
}

}  // namespace weir::weirctl
