// EventWriter is an agent's part in telling people, by Events, which objects are rejected, in conflict or not enforced:
// one agent of the cluster writes them, by a lease. An agent asks for the lease only while there is something to tell.
// It says when and what to ask the API server; ApiSource's thread does it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kubernetes/event_recorder.h"
#include "kubernetes/lease_election.h"

namespace weir::kubernetes {

struct EventOptions {
  std::string namespace_name;  // where the lease is
  EventReporter reporter;
};

struct EventStatus {
  bool writes = false;  // this agent does
  EventCounts counts{};
};

class EventWriter {
 public:
  using Findings = std::shared_ptr<const std::vector<config::Finding>>;

  EventWriter(const EventOptions& options, EventRecorder::Places places, uint64_t seed);

  void set_findings(Findings findings, base::Instant now);
  void on_rejected(const ObjectKey& key, std::string_view version, base::Instant now);
  // Nothing is written any more, and the lease is given back.
  void end() { ending_ = true; }
  bool ended() const { return ending_ && election_.idle(); }

  // To be called before the callers are asked what is due. Afterwards an agent that does not write may have no request
  // of the recorder running.
  void step(base::Instant now, WallTime wall);
  // When step() has something to do besides.
  std::optional<base::Instant> due() const;
  std::array<ApiCaller*, 2> callers() { return {&election_, &recorder_}; }
  const ApiCaller& recorder() const { return recorder_; }
  bool writes() const { return writes_; }
  EventStatus status() const;

 private:
  void count_failures();
  void log_problem(base::Instant now);

  LeaseElection election_;
  EventRecorder recorder_;
  Findings findings_;
  size_t digest_ = 0;          // of those findings that become Events
  bool any_ = false;           // of the findings becomes an Event
  base::Instant any_until_{};  // when that was so last, and a while
  bool writes_ = false, ending_ = false;
  uint64_t lease_failures_ = 0;
  EventCounts lease_counts_{};
  std::string logged_;
  base::Instant log_again_{};
};

}  // namespace weir::kubernetes
