// Kinds that weir does not read. What would change how a mesh's calls go, or
// whether they may, must not be passed over in silence.
#include <algorithm>
#include <array>

#include "kubernetes/decode_istio.h"
#include "kubernetes/decode_kinds.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

enum class Treatment : uint8_t { not_applied_yet, not_enforced, ignored };

struct OtherKind {
  std::string_view kind;
  std::string_view group;
  Treatment treatment;
  std::string_view consequence;
};

constexpr std::string_view kNetworking = "networking.istio.io";
constexpr std::string_view kSecurity = "security.istio.io";
constexpr std::string_view kGatewayApi = "gateway.networking.k8s.io";
constexpr std::string_view kSlip = "networking.io";  // no such group

constexpr std::array kOtherKinds{
    OtherKind{"Gateway", kNetworking, Treatment::not_applied_yet, "nothing listens on its ports"},
    OtherKind{"ServiceEntry", kNetworking, Treatment::ignored, "its hosts are reached as without weir"},
    OtherKind{"WorkloadEntry", kNetworking, Treatment::ignored, "it adds no endpoints"},
    OtherKind{"WorkloadGroup", kNetworking, Treatment::ignored, "it adds no endpoints"},
    OtherKind{"Sidecar", kNetworking, Treatment::ignored, "every enrolled pod sees every Service"},
    OtherKind{"EnvoyFilter", kNetworking, Treatment::ignored, "weir has no Envoy"},
    OtherKind{"ProxyConfig", kNetworking, Treatment::ignored, "weir's settings are flags of the agent"},
    OtherKind{"Telemetry", "telemetry.istio.io", Treatment::ignored, "access log and metrics are flags of the agent"},
    OtherKind{"WasmPlugin", "extensions.istio.io", Treatment::ignored, "weir has no plugins"},
    OtherKind{"AuthorizationPolicy", kSecurity, Treatment::not_enforced,
              "calls that it would deny go through, and calls are not limited to what it allows"},
    OtherKind{"RequestAuthentication", kSecurity, Treatment::not_enforced, "tokens are passed on unchecked"},
    OtherKind{"PeerAuthentication", kSecurity, Treatment::not_enforced, "plaintext is neither refused nor encrypted"},
    OtherKind{"Gateway", kGatewayApi, Treatment::ignored, "nothing listens on its ports"},
    OtherKind{"GatewayClass", kGatewayApi, Treatment::ignored, "weir is no controller of it"},
    OtherKind{"GRPCRoute", kGatewayApi, Treatment::ignored, "it routes nothing"},
    OtherKind{"HTTPRoute", kGatewayApi, Treatment::ignored, "it routes nothing"},
    OtherKind{"TCPRoute", kGatewayApi, Treatment::ignored, "it routes nothing"},
    OtherKind{"TLSRoute", kGatewayApi, Treatment::ignored, "it routes nothing"},
};

bool is_strict(const json& mtls) {
  auto mode = mtls.is_object() ? mtls.find("mode") : mtls.end();
  return mtls.is_object() && mode != mtls.end() && *mode == "STRICT";
}

// Only STRICT, for the workload or for one port, promises anything.
bool demands_mtls(const json& spec) {
  if (!spec.is_object()) return false;
  if (spec.contains("mtls") && is_strict(spec["mtls"])) return true;
  auto ports = spec.find("portLevelMtls");
  return ports != spec.end() && ports->is_object() &&
         std::any_of(ports->begin(), ports->end(), [](const json& port) { return is_strict(port); });
}

void name_object(ObjectReader& reader, const std::string& kind) {
  auto metadata = reader.root().find("metadata");
  if (metadata == reader.root().end() || !metadata->is_object()) return reader.set_name(kind);
  auto text = [&](const char* key) {
    auto value = metadata->find(key);
    std::string name = value != metadata->end() && value->is_string() ? shown(value->get<std::string>()) : "''";
    return name.substr(1, name.size() - 2);
  };
  std::string namespace_name = text("namespace");
  reader.set_name(kind + " " + (namespace_name.empty() ? "default" : namespace_name) + "/" + text("name"));
}

}  // namespace

void check_hosts(ObjectReader& reader, const json& node) {
  constexpr std::string_view kDoubled = ".svc.cluster.cluster.local";
  for (const auto& [key, value] : node.items()) {
    if (value.is_structured()) {
      check_hosts(reader, value);
    } else if (key == "host" && value.is_string() && value.get_ref<const std::string&>().ends_with(kDoubled)) {
      const auto& host = value.get_ref<const std::string&>();
      std::string likely = host.substr(0, host.size() - kDoubled.size()) + ".svc.cluster.local";
      reader.report(Code::doubled_cluster_domain, value, {},
                    "the host " + shown(host) + " names no service: it has 'cluster' twice", "write " + shown(likely));
    }
  }
}

void report_misspelt_group(ObjectReader& reader) {
  reader.report(Code::misspelt_api_group, reader.root(), "apiVersion",
                "there is no API group networking.io; taken for networking.istio.io",
                "write apiVersion: networking.istio.io/v1");
}

void review_other_kind(ObjectReader& reader, std::string_view group, const std::string& kind) {
  bool slip = group == kSlip;
  auto known = std::find_if(kOtherKinds.begin(), kOtherKinds.end(), [&](const OtherKind& other) {
    return other.kind == kind && (other.group == group || (slip && other.group == kNetworking));
  });
  if (known == kOtherKinds.end()) return;
  name_object(reader, kind);
  const json& root = reader.root();
  if (slip) report_misspelt_group(reader);
  std::string consequence(known->consequence);
  switch (known->treatment) {
    case Treatment::not_applied_yet:
      reader.report(Code::not_applied_yet, root, {}, kind + " is not applied yet: " + consequence);
      if (root.contains("spec") && root["spec"].is_structured()) check_hosts(reader, root["spec"]);
      break;
    case Treatment::not_enforced:
      if (kind == "PeerAuthentication" && !(root.contains("spec") && demands_mtls(root["spec"]))) {
        reader.report(Code::ignored_kind, root, {}, "PeerAuthentication that is not STRICT is ignored");
        break;
      }
      reader.report(Code::not_enforced, root, {}, kind + " is NOT enforced by weir: " + consequence,
                    "enforce it elsewhere (NetworkPolicy, the application), or keep these pods out of weir");
      break;
    case Treatment::ignored:
      reader.report(Code::ignored_kind, root, {}, kind + " is ignored: " + consequence);
      break;
  }
}

}  // namespace weir::kubernetes
