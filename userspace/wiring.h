// What the admin server and the metrics show of a running Node.
#pragma once

#include <memory>

#include "admin/sources.h"
#include "control/node.h"
#include "telemetry/access_log.h"
#include "telemetry/metrics.h"

namespace weir {

// Everything given must outlive the server that asks.
admin::Sources admin_sources(control::Node& node, const control::NodeOptions& options,
                             const telemetry::Metrics& metrics, telemetry::AccessLog& access_log,
                             std::shared_ptr<admin::PortCounters> port);
// The agent's own metrics (weir_*).
void add_agent_metrics(telemetry::Metrics& metrics, control::Node& node,
                       std::shared_ptr<const admin::PortCounters> port);

}  // namespace weir
