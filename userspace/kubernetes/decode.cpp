#include "kubernetes/decode.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "kubernetes/decode_istio.h"
#include "kubernetes/decode_kinds.h"
#include "kubernetes/own_keys.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

// Of one file.
constexpr size_t kMaxFindings = 1000;

struct KnownKind {
  Kind kind;
  std::string_view group;
  std::string_view api_version;  // to write
  size_t max_name;
};

constexpr std::array<KnownKind, 9> kKinds{{
    {Kind::service, "", "v1", 63},
    {Kind::endpoint_slice, "discovery.k8s.io", "discovery.k8s.io/v1", 253},
    {Kind::pod, "", "v1", 253},
    {Kind::namespace_, "", "v1", 63},
    {Kind::node, "", "v1", 253},
    {Kind::daemon_set, "apps", "apps/v1", 253},
    {Kind::virtual_service, "networking.istio.io", "networking.istio.io/v1", 253},
    {Kind::destination_rule, "networking.istio.io", "networking.istio.io/v1", 253},
    {Kind::mesh_config, "", "v1", 253},
}};

constexpr std::string_view kIstio = "networking.istio.io";
constexpr std::string_view kIstioSlip = "networking.io";  // no such group

bool is_known_version(const KnownKind& known, std::string_view api_version) {
  if (known.group == kIstio) {
    const std::string_view version = api_version.substr(api_version.find('/') + 1);
    return version == "v1" || version == "v1beta1" || version == "v1alpha3";
  }
  return api_version == known.api_version ||
         (known.kind == Kind::endpoint_slice && api_version == "discovery.k8s.io/v1beta1");
}

// RFC 1123 label or subdomain. Names end up in cgroup paths, logs and metrics.
bool is_dns_name(std::string_view name, size_t max_length) {
  auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > max_length) return false;
  if (!alphanumeric(name.front()) || !alphanumeric(name.back())) return false;
  bool dots = max_length > 63;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return alphanumeric(c) || c == '-' || (dots && c == '.'); });
}

bool is_uid(std::string_view uid) {
  return uid.size() <= 64 && std::all_of(uid.begin(), uid.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
         });
}

// False: not even a name to go by.
bool decode_identity(ObjectReader& reader, const KnownKind& known, Metadata& metadata) {
  const json& root = reader.root();
  const json& fields = reader.object(root, "metadata");
  if (!root.contains("metadata")) {
    reader.reject(Code::missing_field, root, "metadata", "is missing", "add metadata.name");
    return false;
  }
  metadata.name = reader.string(fields, "name");
  if (!reader.rejected() && metadata.name.empty()) {
    reader.reject(Code::missing_field, fields, "name", "is missing", "add metadata.name");
  } else if (!reader.rejected() && !is_dns_name(metadata.name, known.max_name)) {
    reader.reject(Code::bad_value, fields, "name", "is " + shown(metadata.name) + ", which is no DNS name",
                  "use lower-case letters, digits and '-'");
  }
  if (known.kind != Kind::namespace_ && known.kind != Kind::node) {
    metadata.namespace_name = reader.string(fields, "namespace");
    if (metadata.namespace_name.empty()) metadata.namespace_name = "default";
    if (!is_dns_name(metadata.namespace_name, 63)) {
      reader.reject(Code::bad_value, fields, "namespace",
                    "is " + shown(metadata.namespace_name) + ", which is no DNS name",
                    "use lower-case letters, digits and '-'");
    }
  }
  return !reader.rejected();
}

// Others' may be as large as the whole object (last-applied-configuration), and of thousands of objects.
bool is_read(std::string_view annotation) {
  return annotation.starts_with("weir.dev/") || annotation.starts_with("networking.istio.io/") ||
         annotation.starts_with("traffic.sidecar.istio.io/") || annotation == "kubernetes.io/config.hash";
}

void decode_metadata(ObjectReader& reader, Metadata& metadata) {
  const json& fields = reader.object(reader.root(), "metadata");
  metadata.uid = reader.string(fields, "uid");
  if (!is_uid(metadata.uid))
    reader.reject(Code::bad_value, fields, "uid", "is " + shown(metadata.uid) + ", which is no UID");
  metadata.labels = reader.string_map(fields, "labels");
  metadata.annotations = reader.string_map(fields, "annotations");
  std::erase_if(metadata.annotations, [](const auto& annotation) { return !is_read(annotation.first); });
  metadata.created = reader.string(fields, "creationTimestamp");
  metadata.deleting = reader.optional_string(fields, "deletionTimestamp").has_value();
  metadata.origin = reader.origin();
}

template <class T>
void decode_object(ObjectReader& reader, const KnownKind& known, std::string_view api_version,
                   SourceContents& contents) {
  T object;
  ObjectKey key{known.kind, {}, {}};
  if (!decode_identity(reader, known, object.metadata)) {
    contents.complete = false;
    return;
  }
  key.namespace_name = object.metadata.namespace_name;
  key.name = object.metadata.name;
  reader.set_name(key.to_string());
  if (is_known_version(known, api_version)) {
    decode_metadata(reader, object.metadata);
    // Pods are many, mostly of other nodes: translate_pod() looks at those of its own.
    if (known.kind != Kind::pod)
      for (config::Finding& found : unread_keys(key, object.metadata)) reader.add(std::move(found));
    decode_into(reader, object);
  } else {
    reader.reject(Code::wrong_api_version, reader.root(), "apiVersion",
                  "is " + shown(api_version) + ", which has no " + to_string(known.kind),
                  "write apiVersion: " + std::string(known.api_version));
  }
  if (reader.rejected()) {
    contents.rejected.push_back(std::move(key));
  } else {
    contents.objects.emplace_back(std::move(object));
  }
}

void decode_known(ObjectReader& reader, const KnownKind& known, std::string_view api_version,
                  SourceContents& contents) {
  switch (known.kind) {
    case Kind::service:
      return decode_object<Service>(reader, known, api_version, contents);
    case Kind::endpoint_slice:
      return decode_object<EndpointSlice>(reader, known, api_version, contents);
    case Kind::pod:
      return decode_object<Pod>(reader, known, api_version, contents);
    case Kind::namespace_:
      return decode_object<Namespace>(reader, known, api_version, contents);
    case Kind::node:
      return decode_object<Node>(reader, known, api_version, contents);
    case Kind::daemon_set:
      return decode_object<DaemonSet>(reader, known, api_version, contents);
    case Kind::virtual_service:
      return decode_object<VirtualService>(reader, known, api_version, contents);
    case Kind::destination_rule:
      return decode_object<DestinationRule>(reader, known, api_version, contents);
    case Kind::mesh_config:
      return decode_object<MeshConfig>(reader, known, api_version, contents);
    default:
      return;  // not in kKinds
  }
}

void decode_document(ObjectReader& reader, SourceContents& contents) {
  const json& root = reader.root();
  if (!root.is_object() || (!root.contains("kind") && !root.contains("apiVersion"))) {
    contents.complete = false;
    reader.report(Code::not_an_object, root, {}, "not a Kubernetes object: kind and apiVersion are missing",
                  "remove it, or give the file another extension");
    return;
  }
  std::string kind = reader.string(root, "kind");
  std::string api_version = reader.string(root, "apiVersion");
  if (!reader.rejected() && kind.empty()) reader.reject(Code::missing_field, root, "kind", "is missing");
  if (reader.rejected()) {
    contents.complete = false;
    return;
  }
  size_t slash = api_version.find('/');
  std::string_view group = std::string_view(api_version).substr(0, slash == std::string::npos ? 0 : slash);
  for (const KnownKind& known : kKinds) {
    // Other groups have kinds of these names too (a Knative Service): those are somebody else's.
    const bool slip = group == kIstioSlip && known.group == kIstio;
    if (kind != to_string(known.kind) || !(group.empty() || group == known.group || slip)) continue;
    if (known.kind == Kind::mesh_config && !is_mesh_config(root)) return;
    decode_known(reader, known, api_version, contents);
    if (slip) report_misspelt_group(reader);
    return;
  }
  review_other_kind(reader, group, kind);
}

}  // namespace

void decode(const Document& document, const std::string& file, SourceContents& contents) {
  ObjectReader reader(document, {file, document.line});
  decode_document(reader, contents);
  std::ranges::move(reader.take_findings(), std::back_inserter(contents.findings));
}

SourceContents read_manifest(std::string_view text, const std::string& file) {
  Documents parsed = parse_documents(text, file, file.ends_with(".json") ? Format::json : Format::yaml);
  SourceContents contents;
  contents.complete = parsed.complete;
  contents.findings = std::move(parsed.findings);
  for (const Document& document : parsed.documents) decode(document, file, contents);
  FindingList first(kMaxFindings);
  for (config::Finding& finding : contents.findings) first.add(std::move(finding));
  contents.findings = first.take({file, 0}, {});
  return contents;
}

}  // namespace weir::kubernetes
