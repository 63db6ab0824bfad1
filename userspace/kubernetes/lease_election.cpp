#include "kubernetes/lease_election.h"

#include <algorithm>
#include <utility>

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr int64_t kMostTransitions = INT32_MAX;
constexpr int64_t kLongestDuration = 300;  // seconds that a holder may ask for

int64_t number_of(const json& object, const char* key, int64_t otherwise) {
  const json* value = member(object, key);
  return value && value->is_number_integer() ? value->get<int64_t>() : otherwise;
}

int64_t whole_seconds(base::Duration duration) {
  return std::chrono::duration_cast<std::chrono::seconds>(duration).count();
}

// What is no UTF-8 must not end the agent.
std::string text_of_lease(const json& lease) { return lease.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

LeaseElection::LeaseElection(LeaseSettings settings, uint64_t seed)
    : settings_(std::move(settings)),
      path_("/apis/coordination.k8s.io/v1/namespaces/" + settings_.namespace_name + "/leases"),
      random_(seed) {}

void LeaseElection::want(bool wanted, base::Instant now) {
  if (wanted == wanted_) return;
  wanted_ = wanted;
  if (running()) return;
  if (wanted) {
    // All agents come to want it at the same moment.
    go_on(Step::look, now + jittered(settings_.retry) - settings_.retry / 2);
  } else {
    go_on(now < held_until_ ? Step::release : Step::look, now);
  }
}

void LeaseElection::hurry(base::Instant now) {
  hurried_until_ = now + settings_.hurry;
  if (!wanted_ || running() || step_ != Step::look || failures_ > 0) return;
  next_ = std::min(next_, now + jittered(settings_.retry) - settings_.retry / 2);
}

std::optional<base::Instant> LeaseElection::next() const {
  if (!wanted_ && step_ != Step::release) return std::nullopt;
  return next_;
}

void LeaseElection::go_on(Step step, base::Instant at) {
  step_ = step;
  next_ = at;
}

ApiRequest LeaseElection::ask(base::Instant now) {
  began_ = now;
  if (step_ == Step::renew && now >= held_until_) step_ = Step::look;
  if (step_ == Step::release) held_until_ = base::Instant::min();
  ApiRequest request;
  request.target = path_;
  if (step_ != Step::create) request.target += "/" + settings_.name;
  if (step_ == Step::look) return request;
  request.method = step_ == Step::create ? "POST" : "PUT";
  request.body = lease_to_write();
  return request;
}

// What others have put into it besides stays.
std::string LeaseElection::lease_to_write() const {
  const std::string time = rfc3339_micros(wall());
  json lease = lease_;
  if (step_ == Step::create) {
    lease = {{"apiVersion", "coordination.k8s.io/v1"},
             {"kind", "Lease"},
             {"metadata", {{"name", settings_.name}, {"namespace", settings_.namespace_name}}}};
  }
  json& spec = lease["spec"];
  if (!spec.is_object()) spec = json::object();
  const bool was_ours = text_of(member(spec, "holderIdentity")) == settings_.identity;
  spec["renewTime"] = time;
  if (step_ == Step::release) {
    // As client-go does it: whoever looks next may take it at once.
    spec["holderIdentity"] = "";
    spec["leaseDurationSeconds"] = 1;
    spec["acquireTime"] = time;
    return text_of_lease(lease);
  }
  spec["holderIdentity"] = settings_.identity;
  spec["leaseDurationSeconds"] = whole_seconds(settings_.duration);
  if (!was_ours) {
    spec["acquireTime"] = time;
    spec["leaseTransitions"] =
        step_ == Step::create
            ? 0
            : std::clamp<int64_t>(number_of(spec, "leaseTransitions", 0), 0, kMostTransitions - 1) + 1;
  }
  return text_of_lease(lease);
}

void LeaseElection::on_answer(base::Instant now, const ApiAnswer& answer) {
  const Step asked = step_;
  const ApiOutcome outcome = answer.outcome();
  // Whether or not the server has heard it: it is not tried again, the lease will expire.
  if (asked == Step::release) return go_on(Step::look, now);
  if (outcome == ApiOutcome::ok) {
    json lease = read_json(answer.body);
    if (metadata_text(lease, "resourceVersion").empty()) {
      fail(now, {0, {}, "the lease cannot be read: " + said(answer.body), {}});
    } else {
      problem_.clear();
      failures_ = 0;
      last_failure_ = ApiOutcome::ok;
      lease_ = std::move(lease);
      if (asked == Step::look) {
        look_at(now);
      } else {
        held_until_ = began_ + settings_.renew_deadline;
        go_on(Step::renew, now + settings_.renew_every);
      }
    }
  } else if (outcome == ApiOutcome::not_found && asked != Step::create) {
    go_on(Step::create, now);
  } else if (outcome == ApiOutcome::conflict) {
    go_on(Step::look, asked == Step::renew ? now : now + jittered(settings_.retry));
  } else {
    fail(now, answer);
  }
  if (!wanted_) go_on(now < held_until_ ? Step::release : Step::look, now);
}

void LeaseElection::look_at(base::Instant now) {
  const json* found = member(lease_, "spec");
  const json spec = found ? *found : json::object();
  // Not the time in it: the holder's clock may stand still.
  std::string seen = metadata_text(lease_, "resourceVersion");
  const bool renewed = seen != seen_, alive = renewed && !seen_.empty();
  seen_ = std::move(seen);
  if (renewed) seen_since_ = now;
  const std::string holder = text_of(member(spec, "holderIdentity"));
  const int64_t seconds = number_of(spec, "leaseDurationSeconds", whole_seconds(settings_.duration));
  const base::Instant expires = seen_since_ + std::chrono::seconds(std::clamp<int64_t>(seconds, 1, kLongestDuration));
  if (holder.empty() || holder == settings_.identity || expires <= now) return go_on(Step::take, now);
  held_until_ = base::Instant::min();
  // A quarter of the duration to three if all is well.
  const bool often = now < hurried_until_ || !alive;
  const base::Duration wait = jittered(often ? settings_.retry : settings_.duration / 2);
  go_on(Step::look, std::min(now + wait, expires));
}

void LeaseElection::fail(base::Instant now, const ApiAnswer& answer) {
  problem_ = "lease " + settings_.namespace_name + "/" + settings_.name + ": " + answer.problem();
  last_failure_ = answer.outcome();
  ++failures_total_;
  const uint32_t before = failures_++;
  if (last_failure_ == ApiOutcome::forbidden) return go_on(Step::look, now + settings_.forbidden_retry);
  // Who holds it has no time to lose.
  base::Duration wait = settings_.retry;
  for (uint32_t i = 0; now >= held_until_ && i < before && wait < settings_.longest_retry; ++i) wait *= 2;
  wait = jittered(std::min(wait, settings_.longest_retry));
  wait = std::max(wait, std::min(answer.retry_after.value_or(base::Duration(0)), kLongestRetryAfter));
  go_on(step_ == Step::renew ? Step::renew : Step::look, now + wait);
}

base::Duration LeaseElection::jittered(base::Duration duration) {
  return duration / 2 + base::Duration(static_cast<int64_t>(random_() % static_cast<uint64_t>(duration.count() + 1)));
}

}  // namespace weir::kubernetes
