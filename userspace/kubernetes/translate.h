// Translator turns the objects into the Snapshot that workers run with: the same objects and settings give the same
// Snapshot. Services, clusters and pods that did not change are the previous Snapshot's own objects.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "config/snapshot.h"
#include "kubernetes/object_store.h"

namespace weir::kubernetes {

class IstioRules;

struct ClusterSettings {
  std::string cluster_domain = "cluster.local";
  std::string node_name{};  // empty: every pod counts as this node's
  std::string zone{};       // topology.kubernetes.io/zone of this node; empty: as the Node object says
  bool detect = true;       // the protocol of ports that declare none, by the first bytes of each connection
};

// The EndpointSlices of one Service, by name.
using Slices = std::vector<std::shared_ptr<const EndpointSlice>>;

// For one store: it remembers what it has read there.
class Translator {
 public:
  explicit Translator(ClusterSettings settings);
  ~Translator();

  // Everything anew, findings included: takes as long as the cluster is large. `previous` may be null.
  std::shared_ptr<const config::Snapshot> build(const ObjectStore& store, const config::Snapshot* previous);

  // `previous`, and what `changes` make of its Services and pods: takes as long as there are changes. The findings stay
  // as they were. Null if the changes reach further than to some Services and pods (addresses, patterns of hosts):
  // build() has to follow. `previous` is the last Snapshot made, `changes` is all that has happened since.
  std::shared_ptr<const config::Snapshot> update(const ObjectStore& store, std::span<const Change> changes,
                                                 const config::Snapshot& previous);

 private:
  class Build;
  using ServiceName = std::pair<std::string, std::string>;  // namespace, name

  // What changes concern.
  struct Touched {
    std::vector<ServiceName> services;
    bool pods = false;
  };

  // False if the change reaches further.
  bool note(const Change& change, const config::Snapshot& previous, Touched& touched);
  void note_services_of(const Change& pod, std::vector<ServiceName>& touched) const;
  void move_slice(const Change& change, std::vector<ServiceName>& touched);

  ClusterSettings settings_;
  const bool zone_is_set_;
  std::unique_ptr<IstioRules> rules_;
  std::map<ServiceName, Slices> slices_;
};

}  // namespace weir::kubernetes
