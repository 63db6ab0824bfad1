// What a Node looks after from time to time: rows and hooks that others have left, or taken away.
#include <unordered_set>
#include <utility>

#include "base/log.h"
#include "control/node.h"

namespace weir::control {

using base::log::error;
using base::log::warn;

void Node::sweep_foreign_pods() {
  foreign_pods_swept_ = true;
  auto rows = maps().pods();
  if (!rows) return;
  for (const auto& [cookie, row] : *rows) {
    if (row.generation >= generation_) continue;
    if (auto removed = maps().remove_pod(cookie); !removed)
      warn("a row of an earlier agent stays in the pods map: {}", removed.error().message);
  }
}

// Of pods that are gone: none has a row by the time that this agent is the only one.
void Node::sweep_verdicts(base::Instant now) {
  verdicts_swept_ = now;
  const auto pods = maps().pods();
  if (!pods) return warn("{}", pods.error().message);
  std::unordered_set<uint64_t> netns_cookies;
  for (const auto& [cookie, row] : pods.value()) netns_cookies.insert(cookie);
  verdict_rows_->sweep(netns_cookies, now);
}

// Pins that somebody has removed (the agent before, if it took its end for an uninstall), or a kubepods folder that was
// removed and made again. A successor attaches for itself.
void Node::check_hooks() {
  const std::string before = std::exchange(hooks_problem_, "");
  if (!programs_->detached() || handover_->has_successor()) return;
  auto restored = programs_->restore();
  if (restored) return warn("the BPF programs were not attached any more, and are again");
  hooks_problem_ = restored.error().message;
  if (hooks_problem_ != before) error("the BPF programs are not attached any more: {}", hooks_problem_);
}

}  // namespace weir::control
