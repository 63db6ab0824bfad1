// The mesh's configuration: the ConfigMap istio in istio-system holds a MeshConfig (istio.mesh.v1alpha1) as YAML text.
// Few of its hundreds of fields mean something to weir. Of those each stands for itself: one that can't be used is a
// finding and has its default, the others count.
#include "kubernetes/decode_istio.h"
#include "kubernetes/decode_kinds.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr char kText[] = "mesh";

void decode_fields(ObjectReader& reader, MeshConfig& object) {
  const json& fields = reader.root();
  const auto strings = [&](const char* key) {
    reader.begin_part(key);
    std::vector<std::string> values = reader.strings(fields, key);
    return reader.rejected() ? std::vector<std::string>() : values;
  };
  object.virtual_service_export_to = strings("defaultVirtualServiceExportTo");
  object.destination_rule_export_to = strings("defaultDestinationRuleExportTo");
  for (const std::string& name : strings("defaultServiceExportTo")) {
    if (name == "*") continue;
    reader.report(Code::policy_not_applied, fields, "defaultServiceExportTo",
                  "defaultServiceExportTo is not applied: every enrolled pod sees every Service");
    break;
  }
  reader.begin_part("rootNamespace");
  if (const std::string name = reader.string(fields, "rootNamespace"); !name.empty()) object.root_namespace = name;
  reader.begin_part("defaultHttpRetryPolicy");
  if (const auto retries = decode_retries(reader, fields, "defaultHttpRetryPolicy"); retries && !reader.rejected())
    object.default_retries = *retries;
  reader.begin_part("h2UpgradePolicy");
  if (reader.string_of(fields, "h2UpgradePolicy", {"DO_NOT_UPGRADE", "UPGRADE"}, "DO_NOT_UPGRADE") == "UPGRADE")
    reader.report(Code::policy_not_applied, fields, "h2UpgradePolicy",
                  "UPGRADE is not applied yet: HTTP/1.1 is passed on as it is");
}

}  // namespace

bool is_mesh_config(const json& config_map) {
  const auto metadata = config_map.find("metadata");
  return metadata != config_map.end() && metadata->is_object() && metadata->value("name", json()) == "istio" &&
         metadata->value("namespace", json()) == "istio-system";
}

void decode_into(ObjectReader& reader, MeshConfig& object) {
  const json& data = reader.object(reader.root(), "data");
  const auto text = reader.optional_string(data, kText);
  if (!text) return;
  Documents parsed = parse_documents(*text, reader.origin().file, Format::yaml);
  if (!parsed.findings.empty())
    return reader.reject(Code::malformed, data, kText,
                         "is no MeshConfig: " + parsed.findings.front().message + " (line " +
                             std::to_string(parsed.findings.front().line) + " of the text)");
  if (parsed.documents.size() > 1) return reader.reject(Code::malformed, data, kText, "has more than one document");
  if (parsed.documents.empty()) return;
  // Where in the file a line of the text stands depends on how it is quoted: findings are about the key's line.
  Document& document = parsed.documents.front();
  document.lines.reset();
  document.line = reader.line_at(LineTable::child(LineTable::child(reader.path(), "data"), kText));
  ObjectReader fields(document, reader.origin());
  fields.set_name(reader.object_name());
  decode_fields(fields, object);
  for (config::Finding& finding : fields.take_findings()) reader.add(std::move(finding));
}

}  // namespace weir::kubernetes
