// What the admin server shows, as JSON in the names of weir/admin_api.h. Pure.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "admin/sources.h"
#include "base/clock.h"
#include "config/snapshot.h"
#include "interception/enrolment.h"

namespace weir::admin {

// The whole Snapshot, or with `only` ("namespace/name") one service, the findings about it, and no pods.
nlohmann::json to_json(const config::Snapshot& snapshot, std::string_view only = {});
// Says at the ports of such a dump how many connections were not what they declare.
void add_misdeclared(nlohmann::json& dump, const std::map<telemetry::ServicePortLabels, uint64_t>& connections);
nlohmann::json to_json(const std::vector<interception::PodStatus>& pods);
// In the order in which they are to be closed: half-closed ones first, then by how long they have been idle.
nlohmann::json to_json(interception::UnmanagedList list);
// `snapshot` may be null.
nlohmann::json to_json(const AgentStats& stats, const Readiness& readiness, const config::Snapshot* snapshot,
                       const base::Result<BpfCounters>& bpf, base::Instant now);

}  // namespace weir::admin
