// weirctl describe service|pod: what weir makes of one object (istioctl x describe).
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

std::string joined(const json& list) {
  std::string out;
  for (const json& element : list) {
    out += (out.empty() ? "" : ", ") + (element.is_string() ? element.get<std::string>() : element.dump());
  }
  return out.empty() ? "none" : out;
}

// The findings whose object is "KIND NAMESPACE/NAME".
json findings_about(const json& dump, const std::string& object) {
  json found = json::array();
  for (const json& finding : dump.value(key::findings, json::array())) {
    if (text_of(finding, key::object) == object) found.push_back(finding);
  }
  return found;
}

std::string render_findings(const json& findings, bool color) {
  std::string out;
  for (const json& finding : findings) {
    const std::string severity = text_of(finding, key::severity);
    const Tone tone = severity == "error" ? Tone::bad : severity == "warning" ? Tone::warn : Tone::plain;
    out += "  " + toned(severity, tone, color) + " " + text_of(finding, key::code) + ": " +
           printable(text_of(finding, key::message));
    if (const std::string file = text_of(finding, key::file); !file.empty()) {
      out += " (" + printable(file) + ":" + text_of(finding, key::line) + ")";
    }
    if (const std::string fix = text_of(finding, key::fix); !fix.empty()) out += "\n    fix: " + printable(fix);
    out += "\n";
  }
  return out.empty() ? out : "Findings:\n" + out;
}

base::Result<json> fetch_service(const Settings& settings, const std::string& name) {
  const auto dump = Agent(settings.run_dir).get(admin_api::kConfigDump);
  if (!dump) return dump.error();
  const auto found = find_one(dump.value()[key::services], name, settings.namespace_name, "service");
  if (!found) return found.error();
  json service = found.value();
  service[key::findings] = findings_about(dump.value(), "Service " + qualified_name(service));
  return service;
}

base::Result<json> fetch_pod(const Settings& settings, const std::string& name) {
  const Agent agent(settings.run_dir);
  const auto dump = agent.get(admin_api::kConfigDump);
  if (!dump) return dump.error();
  const auto found = find_one(dump.value()[key::pods], name, settings.namespace_name, "pod of this node");
  if (!found) return found.error();
  json pod = found.value();
  const auto statuses = agent.get(admin_api::kPods);
  if (!statuses) return statuses.error();
  for (const json& status : statuses.value()[key::pods]) {
    if (status[key::uid] == pod[key::uid]) pod.update(status);
  }
  pod[key::findings] = findings_about(dump.value(), "Pod " + qualified_name(pod));
  return pod;
}

const char* meaning_of(const std::string& mode) {
  if (mode == "l7") return "every RPC is balanced";
  if (mode == "detect") return "the first bytes decide: HTTP/2 is balanced per RPC, anything else relayed";
  if (mode == "tcp") return "relayed per connection";
  return "not diverted";
}

std::string render_port(const json& port, bool wide, bool color) {
  const std::string name = text_of(port, key::name), diverted = text_of(port, key::diverted_mode);
  const std::string reason = text_of(port, key::reason);
  std::string out = "Port " + text_of(port, key::port) + (name.empty() ? "" : " (" + printable(name) + ")") + ": " +
                    text_of(port, key::protocol) + ", " +
                    toned(meaning_of(diverted), diverted == "none" ? Tone::warn : Tone::good, color);
  if (!reason.empty()) out += ", because: " + printable(reason);
  out += "\n";
  if (const auto misdeclared = port.value(key::misdeclared_connections, uint64_t{0}))
    out +=
        "  Not HTTP/2, and passed as TCP: " + toned(std::to_string(misdeclared), Tone::warn, color) + " connections\n";
  const json& cluster = port[key::cluster];
  if (cluster.is_null()) return out;
  out += "  Cluster " + printable(text_of(cluster, key::name)) + ", " + text_of(cluster, key::load_balancing) + "\n";
  const json& endpoints = cluster[key::endpoints];
  if (endpoints.empty()) return out + "  " + toned("No endpoint is ready", Tone::bad, color) + "\n";
  Table table({{"  ENDPOINT"}, {"POD"}, {"NODE", true}});
  for (const json& endpoint : endpoints) {
    table.add({"  " + text_of(endpoint, key::address), text_of(endpoint, key::pod), text_of(endpoint, key::node)});
  }
  return out + table.render(wide, false);
}

}  // namespace

std::string render_service_description(const json& service, bool wide, bool color) {
  std::string out = "Service " + printable(qualified_name(service)) + " (" + printable(text_of(service, key::fqdn)) +
                    ")\nClusterIPs: " + joined(service[key::vips]) + "\n";
  if (service.value(key::by_endpoint, false))
    out += "  Connections to its endpoints' own addresses are diverted (weir.dev/balance-headless).\n";
  else if (service[key::vips].empty())
    out +=
        "  Without a ClusterIP connections go to pod IPs, which are not diverted (but see "
        "weir.dev/balance-headless).\n";
  for (const json& port : service[key::ports]) out += render_port(port, wide, color);
  return out + render_findings(service.value(key::findings, json::array()), color);
}

std::string render_pod_description(const json& pod, bool, bool color) {
  const std::string state = text_of(pod, key::state), reason = text_of(pod, key::reason);
  const Tone tone = state == "enrolled" ? Tone::good : state == "failed" || state == "refused" ? Tone::bad : Tone::warn;
  std::string out = "Pod " + printable(qualified_name(pod)) + "\nIPs: " + joined(pod[key::ips]) +
                    "\nDataplane: " + text_of(pod, key::dataplane) +
                    "\nState: " + toned(state.empty() ? "not looked at" : state, tone, color);
  if (!reason.empty()) out += ": " + printable(reason);
  if (state == "enrolled") {
    out += ", listener on port " + text_of(pod, key::listener_port) + ", worker " + text_of(pod, key::worker) + ", " +
           human_duration(pod.value(key::enrolment_ms, 0.0) / 1000) + " after its sandbox";
  }
  out +=
      "\nExcluded ports: " + joined(pod.value(key::excluded_ports, json::array())) + "\nWithout an agent: " +
      (pod.value(key::fail_closed, false) ? "connections are refused (fail-closed)" : "connections go the plain way") +
      "\n";
  return out + render_findings(pod.value(key::findings, json::array()), color);
}

void add_describe(CLI::App& app, Session& session) {
  CLI::App* describe = app.add_subcommand("describe", "What weir makes of a service or a pod");
  describe->fallthrough();
  describe->require_subcommand(1);
  auto name = std::make_shared<std::string>();
  CLI::App* service =
      add_command(*describe, session, "service", "Protocol per port and why, endpoints, findings", [&session, name] {
        return show(
            session.settings, [&] { return fetch_service(session.settings, *name); }, render_service_description);
      });
  service->alias("svc");
  service->add_option("name", *name, "SERVICE[.NAMESPACE]")->required();
  CLI::App* pod = add_command(*describe, session, "pod", "Enrolment, exclusions, findings", [&session, name] {
    return show(
        session.settings, [&] { return fetch_pod(session.settings, *name); }, render_pod_description);
  });
  pod->alias("po");
  pod->add_option("name", *name, "POD[.NAMESPACE] of this node")->required();
}

}  // namespace weir::weirctl
