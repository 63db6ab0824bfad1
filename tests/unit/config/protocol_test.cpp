#include "config/protocol.h"

#include <gtest/gtest.h>

#include "weir/bpf_abi.h"

namespace weir::config {
namespace {

struct Case {
  const char* kubernetes_protocol;
  std::optional<const char*> app_protocol;
  const char* name;
  uint16_t port;
  Protocol protocol;
  const char* reason;
};

constexpr auto kNone = std::nullopt;

const Case kCases[] = {
    // The mission's table (service-table.yaml) and its Services.
    {"TCP", "grpc", "grpc-api", 50051, Protocol::grpc, "appProtocol grpc"},
    {"TCP", "h2", "http2-web", 8080, Protocol::http2, "appProtocol h2"},
    {"TCP", kNone, "api-port", 9090, Protocol::unknown, "port name api-port declares no known protocol"},
    {"TCP", kNone, "http2-web", 8080, Protocol::http2, "port name http2-web"},
    {"TCP", kNone, "grpc-api", 50051, Protocol::grpc, "port name grpc-api"},
    // 1. Not TCP
    {"UDP", kNone, "grpc", 53, Protocol::not_tcp, "protocol UDP"},
    {"SCTP", "grpc", "", 80, Protocol::not_tcp, "protocol SCTP"},
    {"UDP", "kubernetes.io/h2c", "", 80, Protocol::not_tcp, "protocol UDP"},
    {"", kNone, "grpc", 80, Protocol::grpc, "port name grpc"},
    // 2. appProtocol replaces the name, even when unknown
    {"TCP", "kubernetes.io/h2c", "tcp", 80, Protocol::http2, "appProtocol kubernetes.io/h2c"},
    {"TCP", "kubernetes.io/ws", "grpc", 80, Protocol::http, "appProtocol kubernetes.io/ws"},
    {"TCP", "kubernetes.io/wss", "grpc", 80, Protocol::https, "appProtocol kubernetes.io/wss"},
    {"TCP", "Kubernetes.io/h2c", "grpc", 80, Protocol::unknown,
     "appProtocol Kubernetes.io/h2c declares no known protocol"},
    {"TCP", "kubernetes.io/H2C", "grpc", 80, Protocol::unknown,
     "appProtocol kubernetes.io/H2C declares no known protocol"},
    {"TCP", "example.com/custom", "grpc-api", 80, Protocol::unknown,
     "appProtocol example.com/custom declares no known protocol"},
    {"TCP", "", "grpc-api", 80, Protocol::unknown, "appProtocol  declares no known protocol"},
    {"TCP", "custom", "grpc-api", 3306, Protocol::tcp, "well-known TCP port 3306"},
    {"TCP", "h2c", "tcp", 80, Protocol::http2, "appProtocol h2c"},
    {"TCP", "H2", "tcp", 80, Protocol::http2, "appProtocol H2"},
    {"TCP", "h2-fast", "grpc", 80, Protocol::unknown, "appProtocol h2-fast declares no known protocol"},
    {"TCP", "GRPC", "tcp", 80, Protocol::grpc, "appProtocol GRPC"},
    {"TCP", "grpc-web", "tcp", 80, Protocol::grpc_web, "appProtocol grpc-web"},
    {"TCP", "http2-next", "", 80, Protocol::http2, "appProtocol http2-next"},
    {"TCP", "https", "http", 443, Protocol::https, "appProtocol https"},
    // weir's h2 and h2c are for appProtocol, not for names
    {"TCP", kNone, "h2", 80, Protocol::unknown, "port name h2 declares no known protocol"},
    {"TCP", kNone, "h2c-api", 80, Protocol::unknown, "port name h2c-api declares no known protocol"},
    {"TCP", kNone, "kubernetes.io/h2c", 80, Protocol::unknown,
     "port name kubernetes.io/h2c declares no known protocol"},
    // 3. grpc-web
    {"TCP", kNone, "grpc-web", 80, Protocol::grpc_web, "port name grpc-web"},
    {"TCP", kNone, "grpc-web-frontend", 80, Protocol::grpc_web, "port name grpc-web-frontend"},
    {"TCP", kNone, "GRPC-Webby", 80, Protocol::grpc_web, "port name GRPC-Webby"},
    {"TCP", kNone, "grpc-we", 80, Protocol::grpc, "port name grpc-we"},
    {"TCP", kNone, "grpcweb", 80, Protocol::unknown, "port name grpcweb declares no known protocol"},
    // 4. the name up to its first '-'
    {"TCP", kNone, "tcp", 80, Protocol::tcp, "port name tcp"},
    {"TCP", kNone, "tcp-grpc", 80, Protocol::tcp, "port name tcp-grpc"},
    {"TCP", kNone, "udp-thing", 80, Protocol::not_tcp, "port name udp-thing"},
    {"TCP", kNone, "GrPc-x", 80, Protocol::grpc, "port name GrPc-x"},
    {"TCP", kNone, "http", 80, Protocol::http, "port name http"},
    {"TCP", kNone, "HTTP-web", 80, Protocol::http, "port name HTTP-web"},
    {"TCP", kNone, "http_proxy-x", 80, Protocol::http_proxy, "port name http_proxy-x"},
    {"TCP", kNone, "http2", 80, Protocol::http2, "port name http2"},
    {"TCP", kNone, "https-web", 80, Protocol::https, "port name https-web"},
    {"TCP", kNone, "tls", 80, Protocol::tls, "port name tls"},
    {"TCP", kNone, "mongo", 80, Protocol::mongo, "port name mongo"},
    {"TCP", kNone, "redis-cache", 80, Protocol::redis, "port name redis-cache"},
    {"TCP", kNone, "mysql", 80, Protocol::mysql, "port name mysql"},
    {"TCP", kNone, "httpfoo", 80, Protocol::unknown, "port name httpfoo declares no known protocol"},
    {"TCP", kNone, "grpc_api", 80, Protocol::unknown, "port name grpc_api declares no known protocol"},
    {"TCP", kNone, "-grpc", 80, Protocol::unknown, "port name -grpc declares no known protocol"},
    {"TCP", kNone, "", 80, Protocol::unknown, "nothing declared"},
    // 5. well-known ports
    {"TCP", kNone, "", 25, Protocol::tcp, "well-known TCP port 25"},
    {"TCP", kNone, "", 53, Protocol::tcp, "well-known TCP port 53"},
    {"TCP", kNone, "db", 3306, Protocol::tcp, "well-known TCP port 3306"},
    {"TCP", kNone, "", 27017, Protocol::tcp, "well-known TCP port 27017"},
    {"TCP", kNone, "grpc", 3306, Protocol::grpc, "port name grpc"},
    {"TCP", kNone, "", 3307, Protocol::unknown, "nothing declared"},
};

TEST(ChooseProtocol, FollowsTheTable) {
  for (const Case& c : kCases) {
    std::optional<std::string_view> app_protocol;
    if (c.app_protocol) app_protocol = *c.app_protocol;
    ProtocolChoice choice = choose_protocol({c.kubernetes_protocol, app_protocol, c.name, c.port});
    EXPECT_STREQ(to_string(choice.protocol), to_string(c.protocol))
        << c.kubernetes_protocol << " appProtocol " << app_protocol.value_or("-") << " name " << c.name << " "
        << c.port;
    EXPECT_EQ(choice.reason, c.reason);
  }
}

TEST(DefaultMode, FollowsTheProtocol) {
  const std::pair<Protocol, Mode> kModes[] = {
      {Protocol::grpc, Mode::l7},        {Protocol::grpc_web, Mode::l7}, {Protocol::http2, Mode::l7},
      {Protocol::unknown, Mode::detect}, {Protocol::http, Mode::detect}, {Protocol::http_proxy, Mode::detect},
      {Protocol::https, Mode::none},     {Protocol::tls, Mode::none},    {Protocol::tcp, Mode::none},
      {Protocol::mongo, Mode::none},     {Protocol::redis, Mode::none},  {Protocol::mysql, Mode::none},
      {Protocol::not_tcp, Mode::none},
  };
  for (auto [protocol, mode] : kModes)
    EXPECT_STREQ(to_string(default_mode(protocol)), to_string(mode)) << to_string(protocol);
}

TEST(Mode, HasTheNumbersOfTheBpfAbi) {
  EXPECT_EQ(static_cast<int>(Mode::none), WEIR_MODE_NONE);
  EXPECT_EQ(static_cast<int>(Mode::l7), WEIR_MODE_L7);
  EXPECT_EQ(static_cast<int>(Mode::detect), WEIR_MODE_DETECT);
  EXPECT_EQ(static_cast<int>(Mode::tcp), WEIR_MODE_TCP);
}

TEST(Names, AreTheOnesPeopleWrite) {
  EXPECT_STREQ(to_string(Protocol::grpc_web), "grpc-web");
  EXPECT_STREQ(to_string(Protocol::http_proxy), "http_proxy");
  EXPECT_STREQ(to_string(Protocol::unknown), "unknown");
  EXPECT_STREQ(to_string(Protocol::not_tcp), "not-tcp");
  EXPECT_STREQ(to_string(Mode::l7), "l7");
  EXPECT_STREQ(to_string(Mode::detect), "detect");
  EXPECT_STREQ(to_string(Mode::tcp), "tcp");
  EXPECT_STREQ(to_string(Mode::none), "none");
}

}  // namespace
}  // namespace weir::config
