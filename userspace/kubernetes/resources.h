// What is listed and watched in the API server.
#pragma once

#include <string>
#include <vector>

#include "kubernetes/objects.h"

namespace weir::kubernetes {

struct Resource {
  struct Version {
    std::string api_version;  // "v1", "networking.istio.io/v1"
    std::string path;         // "/api/v1/services"
  };
  std::string name;               // for people, and for metrics
  std::string kind;               // of its objects, as the server writes it
  Kind object_kind;               // ... and as the ObjectStore knows it
  std::vector<Version> versions;  // the first one that the server has is taken
  std::string selector = {};      // of the query, escaped: "fieldSelector=spec.nodeName%3Dnode-1"
  bool metadata_only = false;     // as PartialObjectMetadata
  bool is_awaited = true;         // nothing begins before it has been listed
  std::string group = {};         // of a CRD that may not be installed, or may be later; else empty
};

// The path of one object.
std::string path_of(const Resource::Version& place, const std::string& namespace_name, const std::string& name);

// Everything but the pods of other nodes.
std::vector<Resource> watched_resources(const std::string& node_name);
// The agent's own, whose end tells an uninstall from an update. It may be forbidden to look.
Resource own_daemon_set(const std::string& namespace_name, const std::string& name);
// Those, of which only labels matter.
Resource pods_elsewhere(const std::string& node_name);

}  // namespace weir::kubernetes
