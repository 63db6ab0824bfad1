// The decoders of the single kinds. Included by the decoder's sources only.
// Each reads into `object`, whose metadata is there already; what it could not
// accept stands in the reader.
#pragma once

#include "kubernetes/object_reader.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

void decode_into(ObjectReader& reader, Service& object);
void decode_into(ObjectReader& reader, EndpointSlice& object);
void decode_into(ObjectReader& reader, Pod& object);
void decode_into(ObjectReader& reader, Namespace& object);
void decode_into(ObjectReader& reader, Node& object);
void decode_into(ObjectReader& reader, DaemonSet& object);
void decode_into(ObjectReader& reader, VirtualService& object);
void decode_into(ObjectReader& reader, DestinationRule& object);
void decode_into(ObjectReader& reader, MeshConfig& object);

// Whether a ConfigMap is the mesh's: all others are somebody else's.
bool is_mesh_config(const nlohmann::json& config_map);

// A kind that weir does not read: one finding if users of a mesh should know, none for
// the rest of Kubernetes. `group` is apiVersion's part before the '/'.
void review_other_kind(ObjectReader& reader, std::string_view group, const std::string& kind);

}  // namespace weir::kubernetes
