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
  thread_ = std::thread([this] { run(); });
}

ApiSource::~ApiSource() {
  stopping_ = true;
  transfers_.wake();
  thread_.join();
}

void ApiSource::follow(Resource resource) {
  Followed followed;
  followed.status.name = resource.name;
  followed.reflector = std::make_unique<Reflector>(std::move(resource), options_.reflector, random_seed(), &heard_);
  followed_.push_back(std::move(followed));
}

void ApiSource::run() {
  while (!stopping_) {
    const base::Instant now = base::MonotonicClock::now();
    begin_due(now);
    base::Instant until = now + kLongestSleep;
    for (const Followed& followed : followed_) {
      if (const auto due = followed.reflector->due()) until = std::min(until, *due);
    }
    transfers_.run(until);
    const base::Instant heard = base::MonotonicClock::now();
    note_ends(heard);
    look_at_subsets(heard);
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
}

// Requests that have ended, and those that go on well.
void ApiSource::note_ends(base::Instant now) {
  for (Followed& followed : followed_) {
    const Reflector& reflector = *followed.reflector;
    ResourceStatus& status = followed.status;
    const bool ended = followed.running && reflector.due();
    const bool heard = reflector.events() != std::exchange(followed.seen_events, reflector.events());
    const int code = reflector.last_status();
    if (followed.running && !followed.counted && (code != 0 || ended)) {
      followed.counted = true;
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

bool ApiSource::all_synced() const {
  return std::all_of(followed_.begin(), followed_.end(),
                     [](const Followed& f) { return f.reflector->synced() || !f.reflector->resource().is_awaited; });
}

void ApiSource::hand_over() {
  const std::lock_guard lock(mutex_);
  status_.clear();
  for (const Followed& followed : followed_) status_.push_back(followed.status);
  const bool first_sync = !queue_synced_ && all_synced();
  queue_synced_ |= first_sync;
  if (heard_.empty() && !first_sync) return;
  std::move(heard_.begin(), heard_.end(), std::back_inserter(queue_));
  heard_.clear();
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
  if (const auto* removed = std::get_if<ApiChange::Removed>(&change.what)) return store_->remove(source, removed->key);
  return store_->retain(source, std::get<ApiChange::Retained>(change.what).keys);
}

std::vector<ResourceStatus> ApiSource::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace weir::kubernetes
