// Findings as Events of Kubernetes (core/v1, as kubelet and client-go's recorder write them: kubectl describe shows
// them below the object).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/finding.h"
#include "kubernetes/api_answer.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

// The object that an Event is about, as the server has it.
struct ObjectReference {
  ObjectKey key;
  std::string api_version, uid, version;  // the last is resourceVersion
};

// Who writes.
struct EventReporter {
  std::string instance;  // the pod's name
  std::string host;      // the node's
};

// What the finding is about, if it is an object.
std::optional<ObjectKey> object_of(const config::Finding& finding);

inline constexpr std::string_view kNotEnforced = "NotEnforced";
// "Rejected", "Conflict" or "NotEnforced"; empty: the finding becomes no Event. Those do that say of an object in the
// API server that it is not in use, or not as a whole, or that it protects nobody. Nothing that one agent alone knows
// (its pods, its files), since one writes for all.
std::string_view event_reason(const config::Finding& finding);

// At most 1 KiB, as the Events API has it.
std::string event_message(const config::Finding& finding);

// The same for the same object and message whoever writes it, so that two writers never make two Events of one finding.
std::string event_name(const ObjectReference& about, std::string_view message);

std::string event_json(const std::string& name, const ObjectReference& about, std::string_view reason,
                       std::string_view message, uint32_t count, const EventReporter& reporter, WallTime time);
// The changes (RFC 7386) that count another occurrence, and that take the Event over from another reporter.
std::string repeated_event_json(const ObjectReference& about, uint32_t count, const EventReporter& reporter,
                                WallTime time);
std::string adopted_event_json(const EventReporter& reporter);

}  // namespace weir::kubernetes
