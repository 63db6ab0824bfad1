// weirctl proxy-config: what the agent runs with, in istioctl's words. All pods of a node run with
// the same clusters, so a pod's name only says whose view is meant, and must exist.
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

struct Narrowed {
  std::string pod, fqdn;
  int port = 0;
};

// Each (service, port) that is meant.
template <class Visit>
void for_each_port(const json& services, const std::string& fqdn, int port, Visit visit) {
  for (const json& service : services) {
    if (!fqdn.empty() && !is_named(service, fqdn, "")) continue;
    for (const json& service_port : service[key::ports]) {
      if (port == 0 || service_port[key::port] == port) visit(service, service_port);
    }
  }
}

using Rows = json (*)(const json&, const std::string&, int);

base::Result<json> fetch(const Settings& settings, const Narrowed& narrowed, Rows rows) {
  const auto dump = Agent(settings.run_dir).get(admin_api::kConfigDump);
  if (!dump) return dump.error();
  const json& config = dump.value();
  if (!narrowed.pod.empty()) {
    const auto pod = find_one(config.value(key::pods, json::array()), narrowed.pod, settings.namespace_name, "pod");
    if (!pod) return pod.error();
  }
  const json services = config.value(key::services, json::array());
  if (!narrowed.fqdn.empty()) {
    const auto service = find_one(services, narrowed.fqdn, "", "service");
    if (!service) return service.error();
  }
  return rows(services, narrowed.fqdn, narrowed.port);
}

}  // namespace

json cluster_rows(const json& services, const std::string& fqdn, int port) {
  json rows = json::array();
  for_each_port(services, fqdn, port, [&](const json& service, const json& of_port) {
    const json& cluster = of_port[key::cluster];
    if (cluster.is_null()) return;
    rows.push_back({{key::fqdn, service[key::fqdn]},
                    {key::port, of_port[key::port]},
                    {key::name, cluster[key::name]},
                    {key::mode, of_port[key::mode]},
                    {key::load_balancing, cluster[key::load_balancing]},
                    {key::connect_timeout_ms, cluster[key::connect_timeout_ms]},
                    {key::endpoints, cluster[key::endpoints].size()}});
  });
  return rows;
}

json endpoint_rows(const json& services, const std::string& fqdn, int port) {
  json rows = json::array();
  for_each_port(services, fqdn, port, [&](const json&, const json& of_port) {
    const json& cluster = of_port[key::cluster];
    if (cluster.is_null()) return;
    for (json row : cluster[key::endpoints]) {
      row[key::cluster] = cluster[key::name];
      rows.push_back(std::move(row));
    }
  });
  return rows;
}

json listener_rows(const json& services, const std::string& fqdn, int port) {
  json rows = json::array();
  for_each_port(services, fqdn, port, [&](const json& service, const json& of_port) {
    for (const json& vip : service[key::vips]) {
      const json& cluster = of_port[key::cluster];
      rows.push_back({{key::address, vip},
                      {key::port, of_port[key::port]},
                      {key::protocol, of_port[key::protocol]},
                      {key::mode, of_port[key::diverted_mode]},
                      {key::reason, of_port[key::reason]},
                      {key::cluster, cluster.is_null() ? json(nullptr) : cluster[key::name]}});
    }
  });
  return rows;
}

std::string render_clusters(const json& rows, bool wide, bool color) {
  Table table({{"SERVICE FQDN"},
               {"PORT"},
               {"SUBSET"},
               {"MODE"},
               {"LOAD BALANCING"},
               {"ENDPOINTS"},
               {"CONNECT TIMEOUT", true},
               {"CLUSTER", true}});
  for (const json& row : rows) {
    const bool none = row[key::endpoints] == 0;
    table.add({text_of(row, key::fqdn), text_of(row, key::port), "", text_of(row, key::mode),
               text_of(row, key::load_balancing), Cell(text_of(row, key::endpoints), none ? Tone::bad : Tone::plain),
               human_duration(row.value(key::connect_timeout_ms, 0.0) / 1000), text_of(row, key::name)});
  }
  return table.render(wide, color);
}

std::string render_endpoints(const json& rows, bool wide, bool color) {
  Table table({{"ENDPOINT"}, {"STATUS"}, {"POD"}, {"NODE", true}, {"CLUSTER"}});
  for (const json& row : rows) {
    table.add({text_of(row, key::address), Cell("HEALTHY", Tone::good), text_of(row, key::pod), text_of(row, key::node),
               text_of(row, key::cluster)});
  }
  return table.render(wide, color);
}

std::string render_listeners(const json& rows, bool wide, bool color) {
  Table table({{"ADDRESS"}, {"PORT"}, {"PROTOCOL"}, {"MODE"}, {"DESTINATION"}, {"BECAUSE", true}});
  for (const json& row : rows) {
    const std::string mode = text_of(row, key::mode);
    table.add({text_of(row, key::address), text_of(row, key::port), text_of(row, key::protocol),
               mode == "none" ? std::string("not diverted") : mode, text_of(row, key::cluster),
               text_of(row, key::reason)});
  }
  return table.render(wide, color);
}

void add_proxy_config(CLI::App& app, Session& session) {
  CLI::App* config = app.add_subcommand("proxy-config", "What the agent runs with (istioctl proxy-config)");
  config->alias("pc");
  config->fallthrough();
  config->require_subcommand(1);
  auto narrowed = std::make_shared<Narrowed>();
  const auto add = [&](const char* name, const char* alias, const char* help, Rows rows, Render render) {
    CLI::App* command = add_command(*config, session, name, help, [&session, narrowed, rows, render] {
      return show(
          session.settings, [&] { return fetch(session.settings, *narrowed, rows); }, render);
    });
    command->alias(alias);
    command->add_option("pod", narrowed->pod, "POD[.NAMESPACE] of this node");
    command->add_option("--fqdn", narrowed->fqdn, "Only this service (FQDN, or NAME[.NAMESPACE])");
    command->add_option("--port", narrowed->port, "Only this service port")->check(CLI::Range(1, 65535));
  };
  add("cluster", "clusters", "Service ports and how their RPCs are balanced", cluster_rows, render_clusters);
  add("endpoint", "endpoints", "Backends that may be picked", endpoint_rows, render_endpoints);
  add("listener", "listeners", "Addresses that pods dial, and what becomes of the connection", listener_rows,
      render_listeners);
}

}  // namespace weir::weirctl
