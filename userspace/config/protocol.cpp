#include "config/protocol.h"

#include <algorithm>
#include <array>

#include "config/ascii.h"

namespace weir::config {
namespace {

struct Name {
  std::string_view text;
  Protocol protocol;
};

// What a port name may say before its first '-'.
constexpr std::array<Name, 12> kNames{{
    {"tcp", Protocol::tcp},
    {"udp", Protocol::not_tcp},
    {"grpc", Protocol::grpc},
    {"http", Protocol::http},
    {"http_proxy", Protocol::http_proxy},
    {"http2", Protocol::http2},
    {"https", Protocol::https},
    {"tls", Protocol::tls},
    {"mongo", Protocol::mongo},
    {"redis", Protocol::redis},
    {"mysql", Protocol::mysql},
    {"grpc-web", Protocol::grpc_web},
}};

// Values of appProtocol beyond the names: Kubernetes' own are case-sensitive.
constexpr std::array<Name, 3> kKubernetesNames{{
    {"kubernetes.io/h2c", Protocol::http2},
    {"kubernetes.io/ws", Protocol::http},
    {"kubernetes.io/wss", Protocol::https},
}};

// Where the server speaks first, so that waiting for the client's bytes would stall.
constexpr std::array<uint16_t, 4> kServerFirstPorts{25, 53, 3306, 27017};

Protocol parse_name(std::string_view name) {
  constexpr std::string_view kGrpcWeb = "grpc-web";  // has a '-' of its own
  if (equal_ignoring_case(name.substr(0, kGrpcWeb.size()), kGrpcWeb)) return Protocol::grpc_web;
  std::string_view prefix = name.substr(0, name.find('-'));
  for (const Name& known : kNames) {
    if (equal_ignoring_case(prefix, known.text)) return known.protocol;
  }
  return Protocol::unknown;
}

Protocol parse_app_protocol(std::string_view value) {
  for (const Name& known : kKubernetesNames) {
    if (value == known.text) return known.protocol;
  }
  // Istio would detect these two; people who write them mean HTTP/2.
  if (equal_ignoring_case(value, "h2") || equal_ignoring_case(value, "h2c")) return Protocol::http2;
  return parse_name(value);
}

}  // namespace

ProtocolChoice choose_protocol(const PortDeclaration& port) {
  if (!port.kubernetes_protocol.empty() && port.kubernetes_protocol != "TCP") {
    return {Protocol::not_tcp, "protocol " + std::string(port.kubernetes_protocol)};
  }
  std::string declaration = port.app_protocol   ? "appProtocol " + std::string(*port.app_protocol)
                            : port.name.empty() ? std::string()
                                                : "port name " + std::string(port.name);
  Protocol protocol = port.app_protocol ? parse_app_protocol(*port.app_protocol) : parse_name(port.name);
  if (protocol != Protocol::unknown) return {protocol, std::move(declaration)};
  if (std::find(kServerFirstPorts.begin(), kServerFirstPorts.end(), port.port) != kServerFirstPorts.end()) {
    return {Protocol::tcp, "well-known TCP port " + std::to_string(port.port)};
  }
  if (declaration.empty()) return {Protocol::unknown, "nothing declared"};
  return {Protocol::unknown, declaration + " declares no known protocol"};
}

Mode default_mode(Protocol protocol) {
  switch (protocol) {
    case Protocol::grpc:
    case Protocol::grpc_web:
    case Protocol::http2:
      return Mode::l7;
    case Protocol::unknown:
    case Protocol::http:
    case Protocol::http_proxy:
      return Mode::detect;
    case Protocol::https:
    case Protocol::tls:
    case Protocol::tcp:
    case Protocol::mongo:
    case Protocol::redis:
    case Protocol::mysql:
    case Protocol::not_tcp:
      break;
  }
  return Mode::none;
}

const char* to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::unknown:
      return "unknown";
    case Protocol::not_tcp:
      return "not-tcp";
    default:
      break;
  }
  for (const Name& known : kNames) {
    if (known.protocol == protocol) return known.text.data();
  }
  return "unknown";
}

const char* to_string(Mode mode) {
  switch (mode) {
    case Mode::l7:
      return "l7";
    case Mode::detect:
      return "detect";
    case Mode::tcp:
      return "tcp";
    case Mode::none:
      break;
  }
  return "none";
}

}  // namespace weir::config
