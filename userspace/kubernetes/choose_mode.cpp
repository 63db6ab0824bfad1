#include <charconv>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

constexpr char kDetect[] = "weir.dev/detect";

bool names(std::string_view text, const ServicePort& port) {
  if (text == port.name) return true;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number == port.port;
}

bool on_or_off(std::string_view text) { return text == "on" || text == "off"; }

// "off", or "api-port=off,9000=off".
bool detection_is_off(const Service& service, const ServicePort& port) {
  const auto annotation = service.metadata.annotations.find(kDetect);
  if (annotation == service.metadata.annotations.end()) return false;
  bool off = false;
  for_each_entry(annotation->second, [&](std::string_view entry) {
    const size_t equals = entry.find('=');
    const bool of_port = equals != entry.npos;
    if (of_port && !names(trimmed(entry.substr(0, equals)), port)) return;
    const std::string_view value = of_port ? trimmed(entry.substr(equals + 1)) : entry;
    if (on_or_off(value)) off = value == "off";
  });
  return off;
}

// What means something to bytes of any protocol: not outlier detection, for only calls are counted as failed.
bool shapes_tcp(const config::TrafficPolicy& policy) {
  if (policy.load_balancing) return true;
  if (!policy.connection_pool) return false;
  const config::ConnectionPool &pool = *policy.connection_pool, none;
  return pool.max_connections != none.max_connections || pool.connect_timeout != none.connect_timeout ||
         pool.tcp_idle_timeout != none.tcp_idle_timeout || pool.max_connection_duration || pool.tcp_keepalive;
}

bool wants_tls(const config::TrafficPolicy& policy) {
  return policy.tls.value_or(config::UpstreamTls::disable) != config::UpstreamTls::disable;
}

}  // namespace

void report_detect_annotation(const Service& service, std::vector<config::Finding>& findings) {
  const auto annotation = service.metadata.annotations.find(kDetect);
  if (annotation == service.metadata.annotations.end()) return;
  const auto report = [&](std::string_view entry, const std::string& what) {
    findings.push_back(
        finding(Code::unknown_label_value, service.metadata.origin,
                ObjectKey{Kind::service, service.metadata.namespace_name, service.metadata.name}.to_string(),
                "the annotation weir.dev/detect has the entry " + shown(entry) + ", " + what,
                "use off, or entries such as api-port=off or 9000=off"));
  };
  for_each_entry(annotation->second, [&](std::string_view entry) {
    const size_t equals = entry.find('=');
    const std::string_view value = equals == entry.npos ? entry : trimmed(entry.substr(equals + 1));
    if (!on_or_off(value)) return report(entry, "which is neither on nor off");
    if (equals == entry.npos) return;
    const std::string_view name = trimmed(entry.substr(0, equals));
    if (std::none_of(service.ports.begin(), service.ports.end(), [&](const auto& port) { return names(name, port); }))
      report(entry, "and the Service has no such port");
  });
}

ModeChoice choose_mode(const Service& service, const ServicePort& port, config::Protocol protocol,
                       std::span<const config::ServicePolicy> policies, const ClusterSettings& settings) {
  using config::Mode;
  const Mode mode = config::default_mode(protocol);
  const auto any_policy = [&](bool (*holds)(const config::TrafficPolicy&)) {
    return std::any_of(policies.begin(), policies.end(),
                       [&](const config::ServicePolicy& policy) { return holds(policy.policy.of_port(port.port)); });
  };
  if (mode == Mode::detect) {
    if (!settings.detect) return {Mode::none, "the agent does not detect protocols (--detect off)"};
    if (detection_is_off(service, port)) return {Mode::none, "weir.dev/detect is off"};
    // To what is not HTTP/2 the TLS that is asked for could not be added, nor may it be left out.
    if (any_policy(wants_tls)) return {Mode::none, "a DestinationRule asks for TLS, which weir does not have"};
  }
  const bool shaped = any_policy(shapes_tcp);
  if (mode == Mode::none && protocol != config::Protocol::not_tcp && shaped && !any_policy(wants_tls))
    return {Mode::tcp, "a DestinationRule applies to its connections", shaped};
  return {mode, {}, shaped};
}

}  // namespace weir::kubernetes
