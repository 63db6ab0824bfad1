// What the decoders of Istio's kinds share. Included by the decoder's sources only.
#pragma once

#include <string>

#include "kubernetes/object_reader.h"

namespace weir::kubernetes {

std::string lower_case(std::string text);

// Reports members named `host`, at any depth below `node`, that carry the cluster domain twice.
void check_hosts(ObjectReader& reader, const nlohmann::json& node);

// The API group networking.io, which does not exist.
void report_misspelt_group(ObjectReader& reader);

}  // namespace weir::kubernetes
