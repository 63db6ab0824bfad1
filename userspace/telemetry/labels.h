// Who called whom, as Istio's standard metrics name it: the workload behind a
// pod, its canonical service, the destination's service. Pure; nothing here
// comes from a request.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "config/snapshot.h"

namespace weir::telemetry {

struct Source {
  std::string workload = "unknown";
  std::string namespace_name = "unknown";
  std::string app = "unknown";
  std::string version = "unknown";
  std::string canonical_service = "unknown";
  std::string canonical_revision = "latest";
  auto operator<=>(const Source&) const = default;
};

struct Destination {
  std::string workload = "unknown";
  std::string workload_namespace = "unknown";
  std::string app = "unknown";
  std::string version = "unknown";
  std::string canonical_service = "unknown";
  std::string canonical_revision = "latest";
  std::string service = "unknown";
  std::string service_name = "unknown";
  std::string service_namespace = "unknown";
  auto operator<=>(const Destination&) const = default;
};

Source source_of(const config::Pod* pod);
// The cluster's host where it differs from the dialled service (a route sent it elsewhere), as in
// Istio. Each of the three may be null.
Destination destination_of(const config::Service* service, const config::Cluster* cluster,
                           const config::Endpoint* endpoint);

// The name of the Deployment, StatefulSet, ... that made the pod, told from its name and from the
// labels that controllers set; the pod's own name if nothing made it.
std::string workload_name(std::string_view pod_name, const config::Labels& labels);
// The same where only the name is known (a backend on another node). A trailing ordinal is taken
// for a StatefulSet's: a series per replica would serve nobody.
std::string workload_name(std::string_view pod_name);

}  // namespace weir::telemetry
