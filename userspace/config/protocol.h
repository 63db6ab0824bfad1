// What a Service port carries, decided from appProtocol and the port's name as
// Istio does ("Protocol Selection"), and what weir does about it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace weir::config {

enum class Protocol : uint8_t {
  unknown,
  grpc,
  grpc_web,
  http2,
  http,
  http_proxy,
  https,
  tls,
  tcp,
  mongo,
  redis,
  mysql,
  not_tcp
};

// What happens to connections to the port. Values are part of the BPF ABI (bpf_abi.h).
enum class Mode : uint8_t {
  none = 0,    // not diverted
  l7 = 1,      // declared HTTP/2: balanced per RPC
  detect = 2,  // the first bytes decide
  tcp = 3,     // relayed per connection
};

struct PortDeclaration {
  std::string_view kubernetes_protocol;          // "TCP" (also when absent), "UDP", "SCTP"
  std::optional<std::string_view> app_protocol;  // replaces the name entirely when set
  std::string_view name;
  uint16_t port = 0;
};

struct ProtocolChoice {
  Protocol protocol = Protocol::unknown;
  std::string reason;  // for people: "appProtocol grpc", "port name grpc-api", "nothing declared"
};

ProtocolChoice choose_protocol(const PortDeclaration& port);
// Without tcp/tls routes or tcp policy, which only later parts of the configuration know.
Mode default_mode(Protocol protocol);
const char* to_string(Protocol protocol);
const char* to_string(Mode mode);

}  // namespace weir::config
