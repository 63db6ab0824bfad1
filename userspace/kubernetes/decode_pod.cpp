#include <algorithm>

#include "kubernetes/decode_kinds.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

PodPhase parse_phase(std::string_view text) {
  if (text == "Pending") return PodPhase::pending;
  if (text == "Running") return PodPhase::running;
  if (text == "Succeeded") return PodPhase::succeeded;
  if (text == "Failed") return PodPhase::failed;
  return PodPhase::unknown;
}

void decode_status(ObjectReader& reader, const json& status, Pod& pod) {
  pod.phase = parse_phase(reader.string(status, "phase"));
  auto add = [&](const json& parent, const char* key) {
    std::string text = reader.string(parent, key);
    if (text.empty()) return;
    auto ip = reader.address(parent, key, text);
    if (ip && std::find(pod.ips.begin(), pod.ips.end(), *ip) == pod.ips.end()) pod.ips.push_back(*ip);
  };
  add(status, "podIP");
  for (const json* entry : reader.objects(status, "podIPs")) add(*entry, "ip");
  for (const json* condition : reader.objects(status, "conditions")) {
    if (reader.string(*condition, "type") == "Ready") pod.ready = reader.string(*condition, "status") == "True";
  }
}

}  // namespace

void decode_into(ObjectReader& reader, Pod& pod) {
  const json& spec = reader.object(reader.root(), "spec");
  for (const char* list : {"containers", "initContainers"}) {
    for (const json* container : reader.objects(spec, list)) {
      pod.containers.push_back(reader.string(*container, "name"));
    }
  }
  pod.node_name = reader.string(spec, "nodeName");
  pod.service_account = reader.string(spec, "serviceAccountName");
  if (pod.service_account.empty()) pod.service_account = "default";
  pod.runtime_class = reader.string(spec, "runtimeClassName");
  pod.host_network = reader.boolean(spec, "hostNetwork").value_or(false);
  decode_status(reader, reader.object(reader.root(), "status"), pod);
}

void decode_into(ObjectReader&, Namespace&) {}

void decode_into(ObjectReader&, Node&) {}

void decode_into(ObjectReader&, DaemonSet&) {}

}  // namespace weir::kubernetes
