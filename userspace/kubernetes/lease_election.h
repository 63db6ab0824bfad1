// LeaseElection: the one of many agents that may do what only one is to do, by a Lease (coordination.k8s.io/v1) as
// client-go's leaderelection has it: who holds it renews it; one that was not seen to be renewed for its duration may
// be taken; each write counts only if nobody wrote in between (resourceVersion). Whether it was renewed is judged by
// the time at which this agent saw it change, never by the times in it: clocks differ. Unlike there, who does not hold
// it looks often only while there is something new to do, or the holder seems to be gone: there may be thousands. Sans
// I/O.
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "base/clock.h"
#include "kubernetes/api_answer.h"

namespace weir::kubernetes {

struct LeaseSettings {
  std::string namespace_name, name;
  std::string identity;  // unique in the cluster, and never again that of another process
  base::Duration duration = std::chrono::seconds(15);
  base::Duration renew_every = std::chrono::seconds(5);
  base::Duration renew_deadline = std::chrono::seconds(10);  // without a renewal the holder gives up after that
  base::Duration retry = std::chrono::seconds(2);            // half to one and a half of it; doubled by failures
  base::Duration hurry = std::chrono::seconds(10);           // how long something is new
  base::Duration longest_retry = std::chrono::minutes(1);
  base::Duration forbidden_retry = std::chrono::minutes(10);
};

class LeaseElection final : public ShortCaller {
 public:
  LeaseElection(LeaseSettings settings, uint64_t seed);

  // Whether this agent has something to do as the holder. One that has not asks nothing, and gives back what it holds.
  void want(bool wanted, base::Instant now);
  // There is something new to do.
  void hurry(base::Instant now);
  // Nobody else holds it at this time. It may end without a word: ask each time.
  bool holds(base::Instant now) const { return wanted_ && now < held_until_; }
  base::Instant held_until() const { return held_until_; }
  // Nothing is asked any more, nor to be given back.
  bool idle() const { return !wanted_ && !running() && step_ == Step::look; }

  // Why it is not known who holds it; empty: nothing is wrong.
  const std::string& problem() const { return problem_; }
  // The last answer, if it was no good, else `ok`.
  ApiOutcome last_failure() const { return last_failure_; }
  uint64_t failures() const { return failures_total_; }

 private:
  enum class Step : uint8_t { look, create, take, renew, release };
  using json = nlohmann::json;

  std::optional<base::Instant> next() const override;
  ApiRequest ask(base::Instant now) override;
  void on_answer(base::Instant now, const ApiAnswer& answer) override;
  void look_at(base::Instant now);
  void fail(base::Instant now, const ApiAnswer& answer);
  void go_on(Step step, base::Instant at);
  std::string lease_to_write() const;
  base::Duration jittered(base::Duration duration);

  const LeaseSettings settings_;
  const std::string path_;  // of all leases of the namespace
  std::mt19937_64 random_;

  bool wanted_ = false;
  Step step_ = Step::look;
  base::Instant next_{}, began_{};
  base::Instant held_until_ = base::Instant::min();
  base::Instant hurried_until_ = base::Instant::min();
  json lease_;                  // as the server last had it
  std::string seen_;            // its resourceVersion ...
  base::Instant seen_since_{};  // ... and when it was first seen like that

  uint32_t failures_ = 0;  // in a row
  uint64_t failures_total_ = 0;
  ApiOutcome last_failure_ = ApiOutcome::ok;
  std::string problem_;
};

}  // namespace weir::kubernetes
