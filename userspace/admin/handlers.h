// The answers of the admin interface: one function a path, on top of Sources.
#pragma once

#include <httplib.h>

#include "admin/sources.h"

namespace weir::admin {

// /metrics, /healthz, /readyz. `sources` outlives the server.
void add_probe_handlers(httplib::Server& server, const Sources& sources);
// The rest; for the unix socket only.
void add_admin_handlers(httplib::Server& server, const Sources& sources);

}  // namespace weir::admin
