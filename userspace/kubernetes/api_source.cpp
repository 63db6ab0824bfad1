#include "kubernetes/api_source.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <random>
#include <system_error>
#include <utility>

#include "base/log.h"

namespace weir::kubernetes {
namespace {

// After those of manifests, whose files are an operator's last word.
const std::string kSource = "~kubernetes/";
// Nothing to do for so long is nothing wrong: the thread just looks.
constexpr base::Duration kLongestSleep = std::chrono::seconds(60);
// At the end, for giving the lease of Events back.
constexpr base::Duration kLongestEnd = std::chrono::seconds(2);
constexpr int kOk = 200;

uint64_t random_seed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

ApiSource::ApiSource(ApiAccess access, ApiSourceOptions options, ObjectStore* store)
    : server_(access.server),
      options_(std::move(options)),
      store_(store),
      news_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      transfers_(std::move(access), options_.user_agent) {
  if (!news_) throw std::system_error(errno, std::generic_category(), "eventfd");
  for (Resource& resource : watched_resources(options_.node_name)) follow(std::move(resource));
  const ObjectKey& own = options_.daemon_set;
  if (!own.name.empty()) follow(own_daemon_set(own.namespace_name, own.name));
  for (const Followed& followed : followed_) status_.push_back(followed.status);
  if (options_.events)
    events_.emplace(
        *options_.events, [this](Kind kind) { return place_of(kind); }, random_seed());
  if (events_) event_status_ = events_->status();
  thread_ = std::thread([this] { run(); });
}

ApiSource::~ApiSource() {
  stopping_ = true;
  end_events();
  thread_.join();
}

void ApiSource::follow(Resource resource) {
  Followed followed;
  followed.status.name = resource.name;
  const std::string& group = resource.group;
  const auto known =
      std::find_if(groups_.begin(), groups_.end(), [&](const GroupLookup& lookup) { return lookup.group() == group; });
  if (!group.empty() && known == groups_.end()) groups_.emplace_back(group, GroupLookupSettings{}, random_seed());
  followed.reflector = std::make_unique<Reflector>(std::move(resource), options_.reflector, random_seed(), &heard_);
  followed_.push_back(std::move(followed));
}

void ApiSource::run() {
  std::optional<base::Instant> end_by;
  base::Instant now = base::MonotonicClock::now();
  while (true) {
    if (stopping_) {
      if (!end_by) end_by = now + kLongestEnd;
      if (!events_ || events_->ended() || now >= *end_by) return;
    }
    begin_due(now);
    transfers_.run(end_by ? std::min(*end_by, next_due(now)) : next_due(now));
    now = base::MonotonicClock::now();
    note_ends(now);
    look_at_subsets(now);
    look_at_groups(now);
    if (events_) step_events(now);
    hand_over();
  }
}

void ApiSource::begin_due(base::Instant now) {
  for (Followed& followed : followed_) {
    const auto due = followed.reflector->due();
    if (!due || *due > now) continue;
    transfers_.start(*followed.reflector, now);
    followed.running = true;
    followed.counted = false;
  }
  for (ApiCaller* caller : short_callers()) {
    const auto due = caller->due();
    if (due && *due <= now) transfers_.start(*caller, now);
  }
}

std::vector<ApiCaller*> ApiSource::short_callers() {
  std::vector<ApiCaller*> callers;
  for (GroupLookup& group : groups_) callers.push_back(&group);
  if (!events_) return callers;
  for (ApiCaller* caller : events_->callers()) callers.push_back(caller);
  return callers;
}

base::Instant ApiSource::next_due(base::Instant now) {
  base::Instant until = now + kLongestSleep;
  for (const Followed& followed : followed_) until = std::min(until, followed.reflector->due().value_or(until));
  for (const ApiCaller* caller : short_callers()) until = std::min(until, caller->due().value_or(until));
  return events_ ? std::min(until, events_->due().value_or(until)) : until;
}

void ApiSource::step_events(base::Instant now) {
  EventWriter::Findings findings;
  {
    const std::lock_guard lock(mutex_);
    findings.swap(findings_);
  }
  if (findings) events_->set_findings(std::move(findings), now);
  for (const ApiChange& change : heard_) {
    if (const auto* rejected = std::get_if<ApiChange::Rejected>(&change.what))
      events_->on_rejected(rejected->key, rejected->version, now);
  }
  if (events_end_) events_->end();
  events_->step(now, std::chrono::system_clock::now());
  if (!events_->writes()) transfers_.cancel(events_->recorder());
}

const Resource::Version* ApiSource::place_of(Kind kind) const {
  const auto found = std::find_if(followed_.begin(), followed_.end(), [&](const Followed& followed) {
    return followed.reflector->resource().object_kind == kind;
  });
  return found == followed_.end() ? nullptr : &found->reflector->version();
}

// Requests that have ended, and those that go on well.
void ApiSource::note_ends(base::Instant now) {
  for (Followed& followed : followed_) {
    const Reflector& reflector = *followed.reflector;
    ResourceStatus& status = followed.status;
    const bool ended = followed.running && !reflector.running();
    bool heard = reflector.events() != std::exchange(followed.seen_events, reflector.events());
    const int code = reflector.last_status();
    if (followed.running && !followed.counted && (code != 0 || ended)) {
      followed.counted = true;
      heard |= code == kOk;
      ++status.requests[code == 0 ? "error" : std::to_string(code)];
    }
    if (ended) followed.running = false;
    if (ended && reflector.problem() != status.problem && !reflector.problem().empty())
      base::log::warn("{} of {}: {}", status.name, server_, reflector.problem());
    if (heard || ended) {
      if (!status.problem.empty() && reflector.problem().empty())
        base::log::info("{} of {} are followed again", status.name, server_);
      status.problem = reflector.problem();
      if (status.problem.empty()) status.last_contact = now;
    }
    if (!status.synced && reflector.synced()) base::log::debug("{} of {} are listed", status.name, server_);
    status.synced = reflector.synced();
    status.missing = reflector.missing();
    status.events = reflector.events();
  }
}

// Pods elsewhere are followed while some subset asks for their labels, and then for those labels only.
void ApiSource::look_at_subsets(base::Instant now) {
  bool touched = false;
  for (const ApiChange& change : heard_) {
    if (const auto* put = std::get_if<ApiChange::Put>(&change.what)) {
      const auto* rule = std::get_if<DestinationRule>(&put->object);
      if (!rule) continue;
      touched = true;
      auto& labels = subset_labels_[key_of(put->object)];
      labels.clear();
      for (const config::Subset& subset : rule->subsets)
        for (const auto& [label, value] : subset.labels) labels.insert(label);
    } else if (const auto* removed = std::get_if<ApiChange::Removed>(&change.what)) {
      touched |= subset_labels_.erase(removed->key) > 0;
    } else if (const auto* retained = std::get_if<ApiChange::Retained>(&change.what)) {
      if (change.resource != "destinationrules") continue;
      touched |=
          std::erase_if(subset_labels_, [&](const auto& rule) { return !retained->keys.contains(rule.first); }) > 0;
    }
  }
  if (!touched) return;
  std::set<std::string> wanted;
  for (const auto& [rule, labels] : subset_labels_) wanted.insert(labels.begin(), labels.end());
  const bool more = !std::includes(wanted_labels_.begin(), wanted_labels_.end(), wanted.begin(), wanted.end());
  if (!more && !wanted.empty()) return;  // a label too many does no harm
  const Resource resource = pods_elsewhere(options_.node_name);
  auto followed = std::find_if(followed_.begin(), followed_.end(),
                               [&](const Followed& f) { return f.status.name == resource.name; });
  wanted_labels_ = std::move(wanted);
  if (wanted_labels_.empty()) {
    if (followed == followed_.end()) return;
    transfers_.cancel(*followed->reflector);
    followed_.erase(followed);
    heard_.push_back({resource.name, ApiChange::Retained{}});
    return;
  }
  if (followed == followed_.end()) {
    follow(resource);
    followed = std::prev(followed_.end());
  }
  transfers_.cancel(*followed->reflector);
  followed->running = false;
  followed->reflector->keep_labels(wanted_labels_);
  followed->reflector->start_over(now);
}

// What is missing is not asked for itself.
void ApiSource::look_at_groups(base::Instant now) {
  for (GroupLookup& group : groups_) {
    const GroupLookup::News news = group.take_news();
    bool missing = false;
    for (Followed& followed : followed_) {
      Reflector& reflector = *followed.reflector;
      if (reflector.resource().group != group.group() || !reflector.missing()) continue;
      missing = true;
      if (reflector.running() || reflector.due()) continue;
      if (news == GroupLookup::News::absent) followed.status.last_contact = now;
      if (news == GroupLookup::News::look_again) reflector.start_over(now);
    }
    group.want(missing, now);
  }
}

bool ApiSource::all_synced() const {
  return std::all_of(followed_.begin(), followed_.end(),
                     [](const Followed& f) { return f.reflector->synced() || !f.reflector->resource().is_awaited; });
}

void ApiSource::hand_over() {
  const std::lock_guard lock(mutex_);
  status_.clear();
  for (const Followed& followed : followed_) status_.push_back(followed.status);
  if (events_) event_status_ = events_->status();
  const bool first_sync = !queue_synced_ && all_synced();
  queue_synced_ |= first_sync;
  if (heard_.empty() && !first_sync) return;
  if (queue_.empty()) queue_.swap(heard_);
  std::move(heard_.begin(), heard_.end(), std::back_inserter(queue_));
  heard_ = {};  // with its memory: a list may have been long
  eventfd_write(news_.get(), 1);
}

bool ApiSource::on_readable() {
  eventfd_t count;
  eventfd_read(news_.get(), &count);
  std::vector<ApiChange> changes;
  {
    const std::lock_guard lock(mutex_);
    changes.swap(queue_);
    synced_ = queue_synced_;
  }
  bool changed = false;
  for (ApiChange& change : changes) changed |= apply(change);
  return changed;
}

bool ApiSource::apply(ApiChange& change) {
  const std::string source = kSource + change.resource;
  if (auto* put = std::get_if<ApiChange::Put>(&change.what))
    return store_->apply(source, std::move(put->object), std::move(put->findings));
  if (auto* rejected = std::get_if<ApiChange::Rejected>(&change.what))
    return store_->reject(source, rejected->key, std::move(rejected->findings));
  if (auto* noted = std::get_if<ApiChange::Noted>(&change.what))
    return store_->note(source, noted->key, std::move(noted->findings));
  if (const auto* removed = std::get_if<ApiChange::Removed>(&change.what)) return store_->remove(source, removed->key);
  return store_->retain(source, std::get<ApiChange::Retained>(change.what).keys);
}

std::vector<ResourceStatus> ApiSource::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

std::optional<EventStatus> ApiSource::events() const {
  const std::lock_guard lock(mutex_);
  return event_status_;
}

void ApiSource::tell(EventWriter::Findings findings) {
  {
    const std::lock_guard lock(mutex_);
    findings_ = std::move(findings);
  }
  transfers_.wake();
}

void ApiSource::end_events() {
  events_end_ = true;
  transfers_.wake();
}

}  // namespace weir::kubernetes
