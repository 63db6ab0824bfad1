// Translator turns the objects into the Snapshot that workers run with. Pure:
// the same objects and settings give the same Snapshot. Services, clusters and
// pods that did not change are the previous Snapshot's own objects.
#pragma once

#include <memory>
#include <string>

#include "config/snapshot.h"
#include "kubernetes/object_store.h"

namespace weir::kubernetes {

struct ClusterSettings {
  std::string cluster_domain = "cluster.local";
  std::string node_name{};         // empty: every pod counts as this node's
  std::string zone{};              // topology.kubernetes.io/zone of this node; empty: not known
  bool divert_undeclared = false;  // whether ports in mode detect are diverted
};

class Translator {
 public:
  explicit Translator(ClusterSettings settings) : settings_(std::move(settings)) {}

  // `previous` may be null.
  std::shared_ptr<const config::Snapshot> build(const ObjectStore& store, const config::Snapshot* previous) const;

 private:
  ClusterSettings settings_;
};

}  // namespace weir::kubernetes
