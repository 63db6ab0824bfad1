// weirctl logs: the access log's last records, from the agent's memory.
#include <chrono>
#include <iostream>
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
namespace key = admin_api::key;

constexpr auto kFollowEvery = std::chrono::milliseconds(500);
constexpr uint64_t kFollowAtMost = 2000;  // records between two looks: more than the ring has

struct LogFlags {
  std::string pod, service;
  uint64_t tail = 50;
  bool follow = false, failures = false;
};

void print(const json& record, const Settings& settings) {
  switch (settings.format) {
    case Format::json:
      std::cout << record.dump(-1, ' ', false, json::error_handler_t::replace) << "\n";
      break;
    case Format::yaml:
      std::cout << "---\n" << to_yaml(record);
      break;
    case Format::table:
    case Format::wide:
      std::cout << render_log_record(record, settings.color);
      break;
  }
}

int logs(const Settings& settings, const LogFlags& flags) {
  const Agent agent(settings.run_dir);
  Parameters parameters{{"tail", std::to_string(flags.tail)}};
  if (!flags.pod.empty()) {
    const bool bare = flags.pod.find_first_of("./") == std::string::npos;
    parameters["pod"] =
        bare && !settings.namespace_name.empty() ? settings.namespace_name + "/" + flags.pod : flags.pod;
  }
  if (!flags.service.empty()) parameters["service"] = flags.service;
  if (flags.failures) parameters["failures"] = "1";
  uint64_t last = 0;
  for (bool first = true;; first = false) {
    const auto answer = agent.get(admin_api::kLogs, parameters);
    if (!answer) return fail(answer.error().message);
    for (const json& record : answer.value().value(key::records, json::array())) {
      print(record, settings);
      last = record.value(key::sequence, last);
    }
    std::cout << std::flush;
    if (first && last == 0) {
      std::cerr << "weirctl: nothing logged yet. By default only RPCs that failed or carry a flag are: `weirctl log "
                   "--access-log all` logs every one.\n";
    }
    if (!flags.follow) return kOk;
    parameters["after"] = std::to_string(last);
    parameters["tail"] = std::to_string(kFollowAtMost);
    std::this_thread::sleep_for(kFollowEvery);
  }
}

}  // namespace

// 21:24:49.000 default/client -> greeter-1 (greeter.default) POST /a.B/C 200 grpc=Unavailable UF 7ms "why"
std::string render_log_record(const json& record, bool color) {
  const std::string time = text_of(record, "start_time"), flags = text_of(record, "response_flags");
  const std::string status = text_of(record, "grpc_status"),
                    failure = text_of(record, "upstream_transport_failure_reason");
  std::string out = time.size() > 12 ? time.substr(11, 12) : time;
  out += "  " + text_of(record, "source_namespace") + "/" + text_of(record, "source_pod") + " -> ";
  const std::string pod = text_of(record, "destination_pod"), host = text_of(record, "upstream_host");
  out += (pod.empty() ? (host.empty() ? std::string("(no endpoint)") : host) : pod) + " (" +
         text_of(record, "destination_service") + ")  ";
  const std::string method = text_of(record, "method");
  out += method.empty() ? std::string("TCP")
                        : method + " " + text_of(record, "path") + " " + text_of(record, "response_code");
  out = printable(out);
  if (!status.empty()) out += " " + toned("grpc=" + status, status == "OK" ? Tone::good : Tone::bad, color);
  if (flags != "-") out += " " + toned(printable(flags), Tone::bad, color);
  out += "  " + text_of(record, "duration") + "ms";
  if (record.value("upstream_request_attempt_count", 0) > 1) {
    out += " (" + text_of(record, "upstream_request_attempt_count") + " attempts)";
  }
  const std::string details = text_of(record, "response_code_details");
  if (!failure.empty()) {
    out += "  " + printable(failure);
  } else if (!details.empty() && details != "via_upstream") {
    out += "  " + printable(details);
  }
  return out + "\n";
}

void add_logs(CLI::App& app, Session& session) {
  auto flags = std::make_shared<LogFlags>();
  CLI::App* command = add_command(app, session, "logs", "The access log's last records, of one pod or of all",
                                  [&session, flags] { return logs(session.settings, *flags); });
  command->add_option("pod", flags->pod, "POD[.NAMESPACE], as client or as server");
  command->add_option("--tail", flags->tail, "How many")->check(CLI::Range(1, 10000))->capture_default_str();
  command->add_option("--service", flags->service, "Only RPCs to this service");
  command->add_flag("--failures", flags->failures, "Only RPCs that failed or carry a flag");
  command->add_flag("-f,--follow", flags->follow, "Go on until interrupted");
}

}  // namespace weir::weirctl
