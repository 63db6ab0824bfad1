#include "kubernetes/event_writer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/log.h"

namespace weir::kubernetes {
namespace {

// The lease is kept when nothing is wrong any more: what changes to and fro must not move it each time.
constexpr base::Duration kKeepLease = std::chrono::minutes(1);
constexpr base::Duration kLogEvery = std::chrono::minutes(1);

// The name in it is another's in each process.
LeaseSettings lease_of(const EventOptions& options, uint64_t seed) {
  LeaseSettings settings;
  settings.namespace_name = options.namespace_name;
  settings.name = "weir-events";
  settings.identity = fmt::format("{}_{:016x}", options.reporter.instance, seed);
  return settings;
}

}  // namespace

EventWriter::EventWriter(const EventOptions& options, EventRecorder::Places places, uint64_t seed)
    : election_(lease_of(options, seed), seed), recorder_(options.reporter, std::move(places), {}, seed + 1) {}

void EventWriter::set_findings(Findings findings, base::Instant now) {
  findings_ = std::move(findings);
  const std::hash<std::string> hash;
  size_t digest = 0;
  bool any = false;
  for (const config::Finding& finding : *findings_) {
    if (event_reason(finding).empty()) continue;
    any = true;
    digest += hash(finding.object) ^ hash(finding.message);
  }
  if (std::exchange(digest_, digest) != digest) election_.hurry(now);
  if (any_ && !any) any_until_ = now + kKeepLease;
  any_ = any;
  if (writes_) recorder_.set_findings(*findings_, now);
}

void EventWriter::on_rejected(const ObjectKey& key, std::string_view version, base::Instant now) {
  if (writes_) recorder_.on_rejected(key, version, now);
}

void EventWriter::step(base::Instant now, WallTime wall) {
  election_.want(!ending_ && (any_ || now < any_until_), now);
  election_.tell_time(wall);
  recorder_.tell_time(wall);
  count_failures();
  log_problem(now);
  if (const bool holds = election_.holds(now); holds != writes_) {
    writes_ = holds;
    if (holds) {
      base::log::debug("this agent writes Events about rejected objects and conflicts now");
      recorder_.set_findings(*findings_, now);
    } else {
      base::log::debug("this agent writes no Events any more");
      recorder_.stop();
    }
  }
  if (writes_) recorder_.choose(now);
}

std::optional<base::Instant> EventWriter::due() const {
  if (!writes_) return std::nullopt;
  base::Instant due = std::min(election_.held_until(), recorder_.choose_at().value_or(base::Instant::max()));
  return any_ ? due : std::min(due, any_until_);
}

void EventWriter::count_failures() {
  if (std::exchange(lease_failures_, election_.failures()) == election_.failures()) return;
  ++lease_counts_[static_cast<size_t>(result_of(election_.last_failure()))];
}

void EventWriter::log_problem(base::Instant now) {
  const std::string& problem = election_.problem().empty() ? recorder_.problem() : election_.problem();
  if (problem.empty() || problem == logged_ || now < log_again_) return;
  base::log::warn("Events about rejected objects and conflicts cannot be written: {}", problem);
  logged_ = problem;
  log_again_ = now + kLogEvery;
}

EventStatus EventWriter::status() const {
  EventStatus status{writes_, recorder_.counts()};
  for (size_t i = 0; i < status.counts.size(); ++i) status.counts[i] += lease_counts_[i];
  return status;
}

}  // namespace weir::kubernetes
