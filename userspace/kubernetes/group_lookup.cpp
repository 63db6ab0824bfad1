#include "kubernetes/group_lookup.h"

#include <algorithm>

namespace weir::kubernetes {

void GroupLookup::want(bool wanted, base::Instant now) {
  if (std::exchange(wanted_, wanted) == wanted) return;
  next_.reset();
  wait_ = settings_.first;
  // A request that runs goes on from its answer.
  if (wanted_ && !running()) wait(now);
}

void GroupLookup::wait(base::Instant now) {
  next_ = now + wait_ / 2 + base::Duration(static_cast<int64_t>(random_() % static_cast<uint64_t>(wait_.count() + 1)));
  wait_ = std::min(2 * wait_, settings_.longest);
}

ApiRequest GroupLookup::ask(base::Instant) {
  next_.reset();
  return {"/apis/" + group_};
}

void GroupLookup::on_answer(base::Instant now, const ApiAnswer& answer) {
  if (!wanted_) return;
  const ApiOutcome outcome = answer.outcome();
  if (outcome == ApiOutcome::not_found) {
    present_ = false;
    news_ = News::absent;
  } else if (outcome == ApiOutcome::ok || outcome == ApiOutcome::forbidden) {
    // Who may not ask for groups has to ask for what is in them. Servers behind one address don't learn of a CRD at the
    // same moment: a group that has just come is looked at sooner.
    if (!std::exchange(present_, true)) wait_ = settings_.first;
    news_ = News::look_again;
  }
  wait(now);
}

}  // namespace weir::kubernetes
