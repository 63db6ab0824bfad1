#include "telemetry/labels.h"

#include <initializer_list>
#include <optional>

namespace weir::telemetry {
namespace {

std::optional<std::string_view> first_label(const config::Labels& labels, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (auto found = labels.find(name); found != labels.end() && !found->second.empty()) return found->second;
  }
  return std::nullopt;
}

std::string label_or(const config::Labels& labels, std::initializer_list<const char*> names,
                     std::string_view otherwise) {
  return std::string(first_label(labels, names).value_or(otherwise));
}

// Splits off what follows the last '-', if all of it is in `alphabet` and its length fits.
bool strip_suffix(std::string_view& name, std::string_view alphabet, size_t shortest, size_t longest) {
  const size_t dash = name.rfind('-');
  if (dash == std::string_view::npos || dash == 0) return false;
  const std::string_view suffix = name.substr(dash + 1);
  if (suffix.size() < shortest || suffix.size() > longest) return false;
  if (suffix.find_first_not_of(alphabet) != std::string_view::npos) return false;
  name = name.substr(0, dash);
  return true;
}

// The letters that Kubernetes makes name suffixes and template hashes of (no vowels, no 0, 1, 3).
constexpr std::string_view kGenerated = "bcdfghjklmnpqrstvwxz2456789";
constexpr std::string_view kDigits = "0123456789";
constexpr size_t kSuffixLength = 5;
constexpr size_t kShortestHash = 6, kLongestHash = 10;

// Strips "-<5 letters>" of generateName and, before it, the ReplicaSet's "-<template hash>".
bool strip_generated(std::string_view& name) {
  if (!strip_suffix(name, kGenerated, kSuffixLength, kSuffixLength)) return false;
  strip_suffix(name, kGenerated, kShortestHash, kLongestHash);
  return true;
}

}  // namespace

std::string workload_name(std::string_view pod_name, const config::Labels& labels) {
  std::string_view name = pod_name;
  if (auto job = first_label(labels, {"batch.kubernetes.io/job-name", "job-name"})) return std::string(*job);
  if (first_label(labels, {"statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"})) {
    strip_suffix(name, kDigits, 1, 10);
    return std::string(name);
  }
  if (auto hash = first_label(labels, {"pod-template-hash"})) {
    const std::string suffix = "-" + std::string(*hash);
    std::string_view replica_set = name;
    if (strip_suffix(replica_set, kGenerated, kSuffixLength, kSuffixLength) && replica_set.size() > suffix.size() &&
        replica_set.substr(replica_set.size() - suffix.size()) == suffix) {
      return std::string(replica_set.substr(0, replica_set.size() - suffix.size()));
    }
  }
  strip_generated(name);
  return std::string(name);
}

std::string workload_name(std::string_view pod_name) {
  std::string_view name = pod_name;
  if (!strip_generated(name)) strip_suffix(name, kDigits, 1, 4);
  return std::string(name);
}

Source source_of(const config::Pod* pod) {
  Source source;
  if (!pod) return source;
  source.workload = workload_name(pod->name, pod->labels);
  source.namespace_name = pod->namespace_name;
  source.app = label_or(pod->labels, {"app"}, "unknown");
  source.version = label_or(pod->labels, {"version"}, "unknown");
  source.canonical_service =
      label_or(pod->labels, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"}, source.workload);
  source.canonical_revision =
      label_or(pod->labels, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}, "latest");
  return source;
}

Destination destination_of(const config::Service* service, const config::Cluster* cluster,
                           const config::Endpoint* endpoint) {
  Destination to;
  if (service) {
    to.service = service->fqdn;
    to.service_name = service->name;
    to.service_namespace = service->namespace_name;
  }
  // "outbound|50051|v1|name.namespace.svc.domain"
  const std::string_view cluster_name = cluster ? std::string_view(cluster->name) : std::string_view();
  const std::string_view host = cluster_name.substr(cluster_name.rfind('|') + 1);  // npos + 1 is 0
  const bool elsewhere = !host.empty() && host != to.service;
  if (elsewhere) {
    const size_t dot = host.find('.');
    const size_t second = dot == std::string_view::npos ? dot : host.find('.', dot + 1);
    to.service = host;
    to.service_name = host.substr(0, dot);
    to.service_namespace =
        dot == std::string_view::npos ? std::string_view("unknown") : host.substr(dot + 1, second - dot - 1);
  }
  if (!endpoint) return to;
  to.workload_namespace = to.service_namespace;
  if (!endpoint->pod.empty()) to.workload = workload_name(endpoint->pod);
  const config::Labels none;
  const config::Labels& labels = service && !elsewhere ? service->labels : none;
  to.app = label_or(labels, {"app"}, "unknown");
  to.version = label_or(labels, {"version"}, "unknown");
  to.canonical_service =
      label_or(labels, {"service.istio.io/canonical-name", "app.kubernetes.io/name", "app"},
               endpoint->pod.empty() ? std::string_view(to.service_name) : std::string_view(to.workload));
  to.canonical_revision =
      label_or(labels, {"service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"}, "latest");
  return to;
}

}  // namespace weir::telemetry
