// How a Node ends: by a signal, or because another agent has taken over.
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "control/node.h"

namespace weir::control {
namespace {

using base::log::info;
using base::log::warn;

// An answer to abandoned RPCs is given this long to reach the applications.
constexpr auto kAbandonGrace = std::chrono::seconds(1);

}  // namespace

void Node::on_signal(uint32_t signal, base::Instant now) {
  if (!draining_) {
    info("signal {}: draining", signal);
    begin_drain(now);
  } else if (may_end_) {
    warn("signal {} again: ending what still runs", signal);
    drain_deadline_ = now;
  } else {
    info("signal {}: ending when what still runs has ended", signal);
  }
  may_end_ = true;
}

void Node::on_handover(base::Instant now) {
  const Handover::Event event = handover_->on_readable();
  if (event == Handover::Event::superseded) {
    info("another agent has taken over: draining");
    superseded_ = true;
    if (!draining_) begin_drain(now);
    handover_->let_go();
  } else if (event == Handover::Event::successor_gone && superseded_ && !may_end_) {
    warn("the agent that had taken over is gone: ending, to be started again");
    may_end_ = true;
  }
  status_stale_ = true;
}

void Node::drain() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wakeup_.get(), &one, sizeof one);
}

void Node::begin_drain(base::Instant now) {
  draining_ = true;
  drain_deadline_ = now + options_.drain_timeout;
  // First no connect() is diverted any more, then the listeners go: a connection whose SYN was
  // under way in between is in the accept queue, and is taken from it.
  enrolment_->withdraw();
  for (auto& worker : workers_) worker->drain();
  if (api_) api_->end_events();
  status_stale_ = true;
}

bool Node::drained(base::Instant now) {
  if (drained_) return true;
  const bool all = std::all_of(workers_.begin(), workers_.end(), [](const auto& w) { return w->drained(); });
  if (all) {
    info("drained");
    drained_ = true;
    return true;
  }
  if (now < drain_deadline_) return false;
  if (!abandoned_) {
    abandoned_ = true;
    uint64_t running = 0;
    for (const auto& worker : workers_) running += worker->stats().active_rpcs.value();
    warn("drain limit reached: {} RPCs end with UNAVAILABLE", running);
    for (auto& worker : workers_) worker->abort_all();
    drain_deadline_ = now + kAbandonGrace;
    return false;
  }
  drained_ = true;
  return true;
}

bool Node::uninstalled() {
  if (options_.daemon_set.name.empty() || handover_->has_successor()) return false;
  // A namespace that goes takes its pods before its DaemonSets as it comes.
  const auto home = store_.find({kubernetes::Kind::namespace_, {}, options_.daemon_set.namespace_name});
  if (home && kubernetes::metadata_of(*home).deleting) return true;
  const auto object = store_.find(options_.daemon_set);
  return daemon_set_seen_ && (!object || kubernetes::metadata_of(*object).deleting);
}

}  // namespace weir::control
