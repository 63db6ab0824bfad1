// The forms for people, apart from where the data comes from: JSON in, text out.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace weir::weirctl {

std::string render_status(const nlohmann::json& stats, bool wide, bool color);
// Adds "rps" to each worker of `now`, from the difference to `before` (both of /stats).
void add_rates(const nlohmann::json& before, nlohmann::json& now);

std::string render_checks(const nlohmann::json& checks, bool wide, bool color);
std::string render_services(const nlohmann::json& rows, bool wide, bool color);
std::string render_pods(const nlohmann::json& rows, bool wide, bool color);
std::string render_flows(const nlohmann::json& rows, bool wide, bool color);
std::string render_bpf_stats(const nlohmann::json& rows, bool wide, bool color);
std::string render_verdicts(const nlohmann::json& rows, bool wide, bool color);
std::string render_brakes(const nlohmann::json& brakes, bool wide, bool color);
std::string render_log_record(const nlohmann::json& record, bool color);
// One line each, as istioctl analyze has them. `findings` are as /config_dump has them.
std::string render_analysis(const nlohmann::json& findings, bool wide, bool color);
std::string render_why(const nlohmann::json& verdict, bool wide, bool color);
std::string render_service_description(const nlohmann::json& service, bool wide, bool color);
std::string render_pod_description(const nlohmann::json& pod, bool wide, bool color);

// Rows of proxy-config, from the services of /config_dump. `fqdn` and `port` (0) narrow them down.
nlohmann::json cluster_rows(const nlohmann::json& services, const std::string& fqdn, int port);
nlohmann::json endpoint_rows(const nlohmann::json& services, const std::string& fqdn, int port);
nlohmann::json listener_rows(const nlohmann::json& services, const std::string& fqdn, int port);
std::string render_clusters(const nlohmann::json& rows, bool wide, bool color);
std::string render_endpoints(const nlohmann::json& rows, bool wide, bool color);
std::string render_listeners(const nlohmann::json& rows, bool wide, bool color);

}  // namespace weir::weirctl
