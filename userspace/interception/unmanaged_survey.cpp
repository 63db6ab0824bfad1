#include "interception/unmanaged_survey.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "interception/tcp_diag.h"

namespace weir::interception {

base::Result<SocketListing> open_listing(const NetworkNamespace& netns) {
  auto opened = TcpDiag::open(netns);
  if (!opened) return opened.error();
  auto diag = std::make_shared<TcpDiag>(std::move(*opened));
  diag->start_list();
  return SocketListing([diag](const std::function<void(const TcpSocket&)>& found) { return diag->step(found); });
}

UnmanagedSurvey::UnmanagedSurvey(DiversionRows rows, uint64_t agent_cgroup, OpenListing open)
    : rows_(std::move(rows)), agent_cgroup_(agent_cgroup), open_(std::move(open)) {}

void UnmanagedSurvey::follow(std::span<const PodStatus> pods, std::shared_ptr<const config::Snapshot> snapshot,
                             base::Instant now) {
  snapshot_ = std::move(snapshot);
  std::set<uint64_t> present;
  for (const PodStatus& status : pods) {
    if (status.state != PodState::enrolled) continue;
    present.insert(status.netns_cookie);
    const auto [entry, is_new] = entries_.try_emplace(status.netns_cookie);
    entry->second.pod = status.pod;
    if (!is_new) continue;
    entry->second.netns = status.netns;
    entry->second.due = now;
  }
  if (look_ && !present.contains(look_->netns_cookie)) look_.reset();
  std::erase_if(entries_, [&](const auto& entry) { return !present.contains(entry.first); });
}

const std::pair<const uint64_t, UnmanagedSurvey::Entry>& UnmanagedSurvey::next() const {
  return *std::min_element(entries_.begin(), entries_.end(),
                           [](const auto& a, const auto& b) { return a.second.due < b.second.due; });
}

std::optional<base::Instant> UnmanagedSurvey::due() const {
  if (look_) return rested_;
  if (entries_.empty()) return std::nullopt;
  return std::max(rested_, next().second.due);
}

bool UnmanagedSurvey::step(base::Instant now) {
  const auto when = due();
  if (!when || *when > now) return false;
  const base::Duration used = base::thread_cpu_time();
  const bool changed = look_ ? proceed(now) : begin(now);
  rested_ = now + kPart * (base::thread_cpu_time() - used);
  return changed;
}

bool UnmanagedSurvey::begin(base::Instant now) {
  const uint64_t cookie = next().first;
  Entry& entry = entries_.at(cookie);
  auto filter = UnmanagedFilter::make(rows_, cookie, agent_cgroup_, snapshot_);
  if (!filter) return fail(cookie, filter.error(), now);
  if (!filter->has_any()) {
    entry.counts.clear();
    entry.due = now + kCalm;
    return true;
  }
  auto listing = open_(*entry.netns);
  if (!listing) return fail(cookie, listing.error(), now);
  look_.emplace(Look{cookie, std::move(*filter), std::move(*listing), {}});
  return false;
}

bool UnmanagedSurvey::proceed(base::Instant now) {
  Entry& entry = entries_.at(look_->netns_cookie);
  auto end = look_->listing([&](const TcpSocket& socket) {
    const auto target = look_->filter.target_of(socket);
    if (!target) return;
    UnmanagedCount& count = look_->counts[target->service->fqdn];
    count.pod = entry.pod;
    count.service = target->service;
    ++count.connections;
  });
  if (!end) return fail(look_->netns_cookie, end.error(), now);
  if (*end == NetlinkEnd::more) return false;
  entry.counts = std::move(look_->counts);
  entry.due = now + (entry.counts.empty() ? kCalm : kAgain);
  look_.reset();
  return true;
}

bool UnmanagedSurvey::fail(uint64_t netns_cookie, const base::Error& error, base::Instant now) {
  Entry& entry = entries_.at(netns_cookie);
  if (failures_++ == 0)
    base::log::warn("pod {}: its connections that go past weir can't be counted: {}", entry.pod->qualified_name(),
                    error.message);
  entry.due = now + kCalm;
  look_.reset();
  return false;
}

void UnmanagedSurvey::fill_in(std::span<PodStatus> pods) const {
  for (PodStatus& pod : pods) {
    const auto entry = entries_.find(pod.netns_cookie);
    if (entry == entries_.end()) continue;
    for (const auto& [fqdn, count] : entry->second.counts) pod.unmanaged_connections += count.connections;
  }
}

std::vector<UnmanagedCount> UnmanagedSurvey::counts() const {
  std::vector<UnmanagedCount> out;
  for (const auto& [cookie, entry] : entries_)
    for (const auto& [fqdn, count] : entry.counts) out.push_back(count);
  return out;
}

}  // namespace weir::interception
