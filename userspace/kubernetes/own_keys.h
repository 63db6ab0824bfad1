// The labels and annotations by which people tell weir something: weir.dev/….
#pragma once

#include <vector>

#include "kubernetes/findings.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

// One for each key of an object's that nobody reads there, since it is misspelt or belongs elsewhere; a few at most.
std::vector<config::Finding> unread_keys(const ObjectKey& object, const Metadata& metadata);

}  // namespace weir::kubernetes
