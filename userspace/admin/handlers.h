// The answers of the admin interface: one function a path, on top of Sources.
#pragma once

#include <httplib.h>

#include <optional>
#include <string>
#include <string_view>

#include "admin/sources.h"
#include "weir/admin_api.h"

namespace weir::admin {

struct ProbeAnswer {
  int status = 200;
  std::string type, body;
};
// What any client may ask for: /metrics, /healthz, /readyz. Nothing: another path.
std::optional<ProbeAnswer> answer_probe(const Sources& sources, std::string_view path);

// The same by httplib. `sources` outlives the server.
void add_probe_handlers(httplib::Server& server, const Sources& sources);
// The rest; for the unix socket only.
void add_admin_handlers(httplib::Server& server, const Sources& sources);

}  // namespace weir::admin
