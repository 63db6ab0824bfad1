#include "weirctl/why.h"

#include <algorithm>

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

using nlohmann::json;
namespace key = admin_api::key;

constexpr char kBrake[] = "brake";

struct Reason {
  const char* code;
  std::string text;
};

// Null: nothing speaks against it.
using MaybeReason = std::optional<Reason>;

MaybeReason about_pod(const WhyFacts& facts) {
  const std::string state = text_of(facts.pod, key::state), reason = text_of(facts.pod, key::reason);
  if (state == "disabled") {
    return Reason{"not_enrolled",
                  "the pod does not ask for it: label it, or its namespace, weir.dev/dataplane=enabled"};
  }
  if (state == "refused") return Reason{"refused", "the pod must not be enrolled: " + reason};
  if (state == "failed") return Reason{"enrolment_failed", "enrolment failed and is tried again: " + reason};
  if (state == "waiting") return Reason{"waiting", "the pod's network namespace has not been found yet"};
  return std::nullopt;
}

const json* find_port(const json& service, uint16_t port) {
  for (const json& candidate : service[key::ports]) {
    if (candidate[key::port] == port) return &candidate;
  }
  return nullptr;
}

MaybeReason about_service(const WhyFacts& facts) {
  if (facts.service[key::vips].empty() && !facts.service.value(key::by_endpoint, false)) {
    return Reason{"headless", "the service has no ClusterIP: connections go to pod IPs, which are not diverted"};
  }
  const json* port = find_port(facts.service, facts.port);
  if (!port) return Reason{"no_port", "the service has no port " + std::to_string(facts.port)};
  if (text_of(*port, key::diverted_mode) != "none") return std::nullopt;
  if (text_of(*port, key::mode) != "none") {
    const json& cluster = (*port)[key::cluster];
    if (cluster.is_null() || cluster[key::endpoints].empty()) {
      return Reason{"no_endpoints", "no endpoint is ready: the connection is refused as it would be without weir"};
    }
    return Reason{"undeclared",
                  "ports that declare no protocol are not diverted (" + text_of(*port, key::reason) + ")"};
  }
  return Reason{"not_grpc", "the port is not declared to carry HTTP/2 (" + text_of(*port, key::protocol) + ": " +
                                text_of(*port, key::reason) + ")"};
}

MaybeReason about_exclusion(const WhyFacts& facts) {
  if (!facts.config.is_object()) return std::nullopt;
  const json& excluded = facts.config[key::excluded_ports];
  if (std::find(excluded.begin(), excluded.end(), json(facts.port)) == excluded.end()) return std::nullopt;
  return Reason{"excluded", "the pod excludes port " + std::to_string(facts.port) + " by annotation"};
}

MaybeReason about_kernel(const WhyFacts& facts) {
  if (facts.node_brake) return Reason{"brake", "the node's brake is on: `weirctl bypass off --node`"};
  if (facts.pod_row.is_null()) return Reason{"no_row", "the BPF map has no row for the pod yet"};
  const std::string pod = qualified_name(facts.pod);
  if (facts.pod_row.value(kBrake, false))
    return Reason{"brake", "the pod's brake is on: `weirctl bypass off --pod " + pod + "`"};
  if (facts.pod_row.value("observe", false))
    return Reason{"observe", "the pod is only observed (weir.dev/dataplane=observe)"};
  if (facts.service_rows.empty()) return Reason{"no_row", "the BPF map has no row for the service's address yet"};
  for (const json& row : facts.service_rows) {
    if (row.value(kBrake, false)) {
      return Reason{"brake", "the brake is on for " + text_of(row, key::address) + ": `weirctl bypass off --service " +
                                 text_of(row, key::address) + "`"};
    }
  }
  return std::nullopt;
}

MaybeReason about_verdicts(const WhyFacts& facts) {
  for (const json& verdict : facts.verdicts) {
    const auto sample_every = verdict.value("sample_every", uint64_t{0});
    if (sample_every == 1) continue;
    const std::string to = qualified_name(facts.service) + ":" + std::to_string(facts.port);
    return Reason{"learned", "the pod's connections to " + text_of(verdict, key::address) +
                                 " were not HTTP/2: the next ones pass by the agent for " +
                                 human_duration(verdict.value("expires_in_seconds", 0.0)) +
                                 (sample_every == 0 ? "" : ", but for one in " + std::to_string(sample_every)) +
                                 "; `weirctl verdicts clear --pod " + qualified_name(facts.pod) + " --service " + to +
                                 "` forgets that"};
  }
  return std::nullopt;
}

base::Result<json> find_pod(const Agent& agent, const Settings& settings, const std::string& name) {
  const auto pods = agent.get(admin_api::kPods);
  if (!pods) return pods.error();
  return find_one(pods.value().value(key::pods, json::array()), name, settings.namespace_name, "pod of this node");
}

base::Result<json> fetch(const Settings& settings, const std::string& pod_name, const ServicePortName& to) {
  const Agent agent(settings.run_dir);
  WhyFacts facts;
  facts.port = to.port;
  const auto pod = find_pod(agent, settings, pod_name);
  if (!pod) return pod.error();
  facts.pod = pod.value();
  const auto dump = agent.get(admin_api::kConfigDump);
  if (!dump) return dump.error();
  for (const json& candidate : dump.value()[key::pods]) {
    if (candidate[key::uid] == facts.pod[key::uid]) facts.config = candidate;
  }
  // An address is as good a name: the one of `services` that has it.
  const json& services = dump.value()[key::services];
  const auto by_vip = std::find_if(services.begin(), services.end(), [&](const json& service) {
    const json& vips = service[key::vips];
    return std::find(vips.begin(), vips.end(), json(to.service)) != vips.end();
  });
  if (by_vip != services.end()) {
    facts.service = *by_vip;
  } else {
    const auto service = find_one(services, to.service, "", "service");
    if (!service) return service.error();
    facts.service = service.value();
  }

  const auto maps = interception::Maps::open(settings.bpf_dir);
  if (!maps) return maps.error();
  const auto config = maps.value().config();
  if (!config) return config.error();
  facts.node_brake = (config.value().flags & WEIR_CONFIG_BYPASS) != 0;
  const uint64_t cookie = facts.pod.value(key::netns_cookie, uint64_t{0});
  const auto pod_row = maps.value().pod(cookie);
  if (!pod_row) return pod_row.error();
  const auto brakes = maps.value().brakes();
  if (!brakes) return brakes.error();
  if (pod_row.value()) facts.pod_row = to_json(cookie, *pod_row.value(), brakes.value().pods.contains(cookie));
  facts.service_rows = facts.verdicts = json::array();
  const auto rows = maps.value().services();
  if (!rows) return rows.error();
  const auto dialled = addresses_of(facts.service, to.port);
  for (const auto& [address, row] : rows.value()) {
    if (std::find(dialled.begin(), dialled.end(), address) == dialled.end()) continue;
    facts.service_rows.push_back(to_json(address, row, brakes.value().services.contains(address)));
    if (!(row.flags & WEIR_SERVICE_LEARNS) || row.mode != WEIR_MODE_DETECT) continue;
    const auto verdict = maps.value().verdict(cookie, address);
    if (!verdict) return verdict.error();
    const json shown = verdict.value() ? to_json({cookie, address, *verdict.value()}) : json();
    if (!shown.is_null()) facts.verdicts.push_back(shown);
  }
  const auto unmanaged = agent.get(admin_api::kUnmanaged,
                                   {{"pod", qualified_name(facts.pod)}, {"service", qualified_name(facts.service)}});
  // An earlier agent does not tell.
  for (const json& connection : unmanaged ? unmanaged.value()[key::connections] : json::array())
    facts.unmanaged += connection[key::port] == to.port;
  return why(facts);
}

}  // namespace

json why(const WhyFacts& facts) {
  json verdict = {{key::pod, qualified_name(facts.pod)},
                  {"service", qualified_name(facts.service)},
                  {key::port, facts.port},
                  {"diverted", false}};
  for (const auto question : {about_pod, about_service, about_exclusion, about_kernel, about_verdicts}) {
    if (const MaybeReason against = question(facts)) {
      verdict[key::code] = against->code;
      verdict[key::reason] = against->text;
      return verdict;
    }
  }
  const json& port = *find_port(facts.service, facts.port);
  verdict["diverted"] = true;
  verdict[key::code] = "diverted";
  verdict[key::mode] = port[key::diverted_mode];
  verdict[key::reason] = text_of(port, key::reason);
  verdict[key::unmanaged_connections] = facts.unmanaged;
  verdict[key::misdeclared_connections] = port.value(key::misdeclared_connections, uint64_t{0});
  return verdict;
}

std::string render_why(const json& verdict, bool, bool color) {
  const bool diverted = verdict.value("diverted", false);
  std::string out =
      printable(text_of(verdict, key::pod) + " -> " + text_of(verdict, "service") + ":" + text_of(verdict, key::port)) +
      ": ";
  if (!diverted)
    return out + toned("not diverted", Tone::warn, color) + ": " + printable(text_of(verdict, key::reason)) + "\n";
  const std::string mode = text_of(verdict, key::mode);
  const auto misdeclared = verdict.value(key::misdeclared_connections, uint64_t{0});
  const char* meaning = misdeclared > 0    ? "every RPC of what is HTTP/2 is balanced, anything else relayed"
                        : mode == "l7"     ? "every RPC is balanced"
                        : mode == "detect" ? "the first bytes decide: HTTP/2 is balanced per RPC, anything else relayed"
                                           : "relayed per connection";
  out += toned("diverted", Tone::good, color) + " (" + mode + ": " + meaning + "; " +
         printable(text_of(verdict, key::reason)) + ")\n";
  if (misdeclared > 0)
    out += "Connections that were not the HTTP/2 that this declares, and passed as TCP (of all pods here): " +
           toned(std::to_string(misdeclared), Tone::warn, color) + " (weir_misdeclared_connections_total)\n";
  const auto unmanaged = verdict.value(key::unmanaged_connections, uint64_t{0});
  if (unmanaged == 0) return out;
  return out + "Connections opened before, which go past weir until the client dials again: " +
         toned(std::to_string(unmanaged), Tone::warn, color) + " (weirctl unmanaged, adopt)\n";
}

void add_why(CLI::App& app, Session& session) {
  auto names = std::make_shared<std::pair<std::string, std::string>>();
  CLI::App* command = add_command(
      app, session, "why", "Whether a pod's connections to a service are diverted, and the reason", [&session, names] {
        const auto to = parse_service_port(names->second);
        if (!to) return fail("'" + names->second + "' is not SERVICE:PORT", kUsage);
        return show(
            session.settings, [&] { return fetch(session.settings, names->first, *to); }, render_why);
      });
  command->add_option("pod", names->first, "POD[.NAMESPACE] of this node")->required();
  command->add_option("service", names->second, "SERVICE[.NAMESPACE]:PORT, or CLUSTER-IP:PORT")->required();
}

}  // namespace weir::weirctl
