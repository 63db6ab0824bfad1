// What a rule changes in a request or response on its way. Pure.
#pragma once

#include "config/routes.h"
#include "http/headers.h"

namespace weir::routing {

// Remove, then set, then add, in Envoy's order: what is removed and set has the new value. "host" is :authority, as in
// Envoy; other pseudo-header fields can't be changed.
void apply(const config::HeaderOperations& operations, http::Headers& headers);

// `match` is the one that the request met, null for none: its prefix is what a new uri replaces, and without a
// prefix the whole path. A query stays. What was rewritten stands in x-envoy-original-path and -host afterwards.
void rewrite(const config::Rewrite& rewrite, const config::RequestMatch* match, http::Headers& headers);

}  // namespace weir::routing
