// Whether a running Node is ready: its configuration has been read, its hooks are attached, and the pods that ran when
// it began are listened in, or have had their time.
#pragma once

#include <string>

#include "admin/sources.h"
#include "control/node.h"

namespace weir {

// `manifests`: the directory that is read, if there is one. Thread-safe.
admin::Readiness readiness(const control::Node& node, const std::string& manifests);
// "watching", or what is wrong with it, by resource.
std::string state_of(const kubernetes::ApiSource& api);
double seconds_since(base::Instant then);

}  // namespace weir
