#include "admin/handlers.h"

#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "admin/to_json.h"
#include "base/log.h"
#include "weir/admin_api.h"

namespace weir::admin {
namespace {

using httplib::Request;
using httplib::Response;
using nlohmann::json;
namespace api = admin_api;

constexpr char kJson[] = "application/json";
constexpr uint64_t kMostRecords = 10'000;
constexpr uint64_t kLongestIdleMs = UINT32_MAX;  // what the kernel can tell

// Names in manifests may hold any bytes; JSON may not.
std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

void answer(Response& response, const json& value) { response.set_content(dump(value), kJson); }

void refuse(Response& response, int status, const std::string& why) {
  response.status = status;
  answer(response, {{api::key::error, why}});
}

std::optional<uint64_t> number_parameter(const Request& request, const char* name, uint64_t otherwise) {
  if (!request.has_param(name)) return otherwise;
  const std::string text = request.get_param_value(name);
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void config_dump(const Sources& sources, const Request& request, Response& response, bool services_only) {
  const auto snapshot = sources.snapshot();
  if (!snapshot) return refuse(response, 503, "no configuration has been read yet");
  json dump = to_json(*snapshot, request.get_param_value("service"));
  add_misdeclared(dump, sources.metrics->misdeclared());
  if (services_only) dump = {{api::key::services, std::move(dump[api::key::services])}};
  answer(response, dump);
}

void stats(const Sources& sources, Response& response) {
  const auto snapshot = sources.snapshot();
  json out =
      to_json(sources.stats(), sources.ready(), snapshot.get(), sources.bpf_counters(), base::MonotonicClock::now());
  const char* const modes[] = {"off", "failed", "all"};
  out[api::key::access_log] = {{api::key::mode, modes[static_cast<size_t>(sources.access_log->mode())]},
                               {api::key::lines, sources.access_log->written()},
                               {api::key::dropped, sources.access_log->dropped()}};
  answer(response, out);
}

void logs(const Sources& sources, const Request& request, Response& response) {
  telemetry::LogFilter filter;
  filter.pod = request.get_param_value("pod");
  filter.service = request.get_param_value("service");
  filter.failures = request.has_param("failures") && request.get_param_value("failures") != "0";
  const auto after = number_parameter(request, "after", 0);
  const auto tail = number_parameter(request, "tail", 50);
  if (!after || !tail || *tail > kMostRecords) {
    return refuse(response, 400, "tail and after are numbers, tail at most " + std::to_string(kMostRecords));
  }
  filter.after = *after;
  response.set_content("{\"" + std::string(api::key::records) + "\":" + sources.access_log->tail(filter, *tail) + "}",
                       kJson);
}

void logging(const Sources& sources, const Request& request, Response& response) {
  if (!request.has_param("level") && !request.has_param("access_log")) {
    return refuse(response, 400, "say what to change: ?level=LEVEL or ?access_log=all|failed|off");
  }
  std::optional<telemetry::LogMode> mode;
  if (request.has_param("access_log")) {
    mode = telemetry::parse_log_mode(request.get_param_value("access_log"));
    if (!mode) return refuse(response, 400, "access_log is all, failed or off");
  }
  if (request.has_param("level")) {
    if (auto set = sources.set_log_level(request.get_param_value("level")); !set) {
      return refuse(response, 400, set.error().message);
    }
    base::log::info("log level set to {} over the admin socket", request.get_param_value("level"));
  }
  if (mode) sources.access_log->set_mode(*mode);
  answer(response, json::object());
}

// As SocketAddress::to_string() writes it.
std::optional<base::SocketAddress> address_parameter(const Request& request, const char* name) {
  const std::string text = request.get_param_value(name);
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  const bool bracketed = colon > 2 && text.front() == '[' && text[colon - 1] == ']';
  const auto ip = base::IpAddress::parse(bracketed ? text.substr(1, colon - 2) : text.substr(0, colon));
  uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, port);
  if (!ip || bracketed == ip->is_v4() || error != std::errc() || stop != end) return std::nullopt;
  return base::SocketAddress{*ip, port};
}

void unmanaged(const Sources& sources, const Request& request, Response& response) {
  answer(response, to_json(sources.unmanaged({request.get_param_value("namespace"), request.get_param_value("pod"),
                                              request.get_param_value("service")})));
}

void adopt(const Sources& sources, const Request& request, Response& response) {
  const auto source = address_parameter(request, "source");
  const auto destination = address_parameter(request, "destination");
  // All ones mean any socket to the kernel.
  const auto cookie = number_parameter(request, "cookie", 0);
  const auto min_idle_ms = number_parameter(request, "min_idle_ms", 0);
  const bool active = request.has_param("active") && request.get_param_value("active") != "0";
  if (!source || !destination || !cookie || *cookie == 0 || *cookie == UINT64_MAX || !request.has_param("uid"))
    return refuse(response, 400, "say which: ?uid=POD_UID&source=IP:PORT&destination=IP:PORT&cookie=N");
  if (!min_idle_ms || *min_idle_ms > kLongestIdleMs || request.has_param("min_idle_ms") == active)
    return refuse(response, 400, "say when: min_idle_ms=N, or active=1 for whatever goes on");
  const auto result = sources.adopt({request.get_param_value("uid"),
                                     {*source, *destination, *cookie},
                                     std::chrono::milliseconds(*min_idle_ms),
                                     active});
  if (!result) return refuse(response, result.error().code == EOPNOTSUPP ? 501 : 502, result.error().message);
  answer(response, {{api::key::result, interception::to_string(result.value())}});
}

}  // namespace

std::optional<ProbeAnswer> answer_probe(const Sources& sources, std::string_view path) {
  if (path == api::kHealth) {
    const auto stuck = sources.stuck();
    return stuck ? ProbeAnswer{503, "text/plain", *stuck + "\n"} : ProbeAnswer{200, "text/plain", "ok\n"};
  }
  if (path == api::kMetrics)
    return ProbeAnswer{200, "text/plain; version=0.0.4; charset=utf-8", sources.metrics->exposition()};
  if (path != api::kReady) return std::nullopt;
  const Readiness readiness = sources.ready();
  if (!readiness.ready) return ProbeAnswer{503, "text/plain", readiness.reason + "\n"};
  std::string body = "ready\n";
  for (const std::string& detail : readiness.details) body += detail + "\n";
  return ProbeAnswer{200, "text/plain", std::move(body)};
}

void add_probe_handlers(httplib::Server& server, const Sources& sources) {
  for (const char* path : {api::kHealth, api::kReady, api::kMetrics}) {
    server.Get(path, [&sources, path](const Request&, Response& response) {
      const ProbeAnswer answer = *answer_probe(sources, path);
      response.status = answer.status;
      response.set_content(answer.body, answer.type);
    });
  }
}

void add_admin_handlers(httplib::Server& server, const Sources& sources) {
  server.Get(api::kConfigDump, [&sources](const Request& request, Response& response) {
    config_dump(sources, request, response, false);
  });
  server.Get(api::kServices,
             [&sources](const Request& request, Response& response) { config_dump(sources, request, response, true); });
  server.Get(api::kPods, [&sources](const Request&, Response& response) { answer(response, to_json(sources.pods())); });
  server.Get(api::kStats, [&sources](const Request&, Response& response) { stats(sources, response); });
  server.Get(api::kUnmanaged,
             [&sources](const Request& request, Response& response) { unmanaged(sources, request, response); });
  server.Post(api::kAdopt,
              [&sources](const Request& request, Response& response) { adopt(sources, request, response); });
  server.Get(api::kLogs, [&sources](const Request& request, Response& response) { logs(sources, request, response); });
  server.Post(api::kLogging,
              [&sources](const Request& request, Response& response) { logging(sources, request, response); });
  server.Post(api::kDrain, [&sources](const Request&, Response& response) {
    base::log::info("drain asked for over the admin socket");
    sources.drain();
    response.status = 202;
    answer(response, json::object());
  });
}

}  // namespace weir::admin
