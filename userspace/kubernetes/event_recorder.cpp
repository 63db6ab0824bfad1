#include "kubernetes/event_recorder.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr base::Duration kRemembered = std::chrono::hours(1);  // as long as the server keeps Events
constexpr uint32_t kForbiddenInARow = 3;
constexpr uint32_t kMostCounted = INT32_MAX;
constexpr int kMostRequests = 5;  // for one Event, of a server that says now this, now that

uint32_t count_of(const json& event) {
  const json* count = member(event, "count");
  if (!count || !count->is_number_integer()) return 1;
  return static_cast<uint32_t>(std::clamp<int64_t>(count->get<int64_t>(), 1, kMostCounted));
}

}  // namespace

EventResult result_of(ApiOutcome failure) {
  switch (failure) {
    case ApiOutcome::forbidden:
      return EventResult::forbidden;
    case ApiOutcome::throttled:
      return EventResult::throttled;
    case ApiOutcome::refused:
      return EventResult::refused;
    default:
      return EventResult::failed;
  }
}

EventRecorder::EventRecorder(EventReporter reporter, Places places, EventLimits limits, uint64_t seed)
    : reporter_(std::move(reporter)), places_(std::move(places)), limits_(limits), random_(seed) {}

void EventRecorder::set_findings(std::span<const config::Finding> findings, base::Instant now) {
  ++round_;
  may_make_room_ = true;
  size_t left_out = 0;
  // Policies that are not enforced may be thousands: the others come first.
  for (const bool not_enforced : {false, true})
    for (const config::Finding& finding : findings) {
      const std::string_view reason = event_reason(finding);
      if (reason.empty() || (reason == kNotEnforced) != not_enforced) continue;
      Told* told = track(finding);
      if (!told) {
        ++left_out;
        continue;
      }
      told->round = round_;
      if (std::exchange(told->wrong, true)) continue;
      told->reason = reason;
      ++told->pending;
      told->due = now + limits_.settle;
    }
  for (auto& [object, subject] : subjects_) {
    for (auto& [message, told] : subject.events) {
      if (told.round == round_) continue;
      told.wrong = false;
      told.pending = 0;
    }
  }
  forget(now - kRemembered);
  if (left_out > left_out_) counts_[static_cast<size_t>(EventResult::limited)] += left_out - left_out_;
  left_out_ = left_out;
  next_ = now;
}

EventRecorder::Told* EventRecorder::track(const config::Finding& finding) {
  const std::string message = event_message(finding);
  if (const auto subject = subjects_.find(finding.object); subject != subjects_.end())
    if (const auto known = subject->second.events.find(message); known != subject->second.events.end())
      return &known->second;
  if (tracked_ >= limits_.most && std::exchange(may_make_room_, false)) forget(base::Instant::max());
  if (tracked_ >= limits_.most) return nullptr;
  ++tracked_;
  Subject& subject = subjects_[finding.object];
  subject.key = *object_of(finding);
  return &subject.events[message];
}

void EventRecorder::forget(base::Instant written_before) {
  for (auto subject = subjects_.begin(); subject != subjects_.end();) {
    auto& [object, known] = *subject;
    tracked_ -= std::erase_if(known.events, [&, &name = object](const auto& event) {
      const bool in_hand = job_ && job_->object == name && job_->message == event.first;
      return !event.second.wrong && event.second.written < written_before && !in_hand;
    });
    subject = known.events.empty() ? subjects_.erase(subject) : std::next(subject);
  }
}

void EventRecorder::on_rejected(const ObjectKey& key, std::string_view version, base::Instant now) {
  const auto found = subjects_.find(key.to_string());
  if (found == subjects_.end() || found->second.version == version) return;
  found->second.version = version;
  for (auto& [message, told] : found->second.events) {
    if (!told.wrong || told.pending > 0) continue;
    told.pending = 1;
    told.due = now + limits_.settle;
  }
  next_ = now;
}

void EventRecorder::stop() {
  subjects_.clear();
  tracked_ = left_out_ = 0;
  job_.reset();
  next_.reset();
  problem_.clear();
  abandon();
}

base::Instant EventRecorder::write_at(const Told& told) const {
  if (!told.wrong) return base::Instant::max();
  return told.pending > 0 ? told.due : told.written + limits_.repeat_every;
}

void EventRecorder::choose(base::Instant now) {
  while (!running() && !job_ && next_ && *next_ <= now) {
    const std::string *object = nullptr, *message = nullptr;
    base::Instant first = base::Instant::max();
    for (const auto& [name, subject] : subjects_) {
      for (const auto& [text, told] : subject.events) {
        if (write_at(told) >= first) continue;
        first = write_at(told);
        object = &name;
        message = &text;
      }
    }
    if (!object) {
      next_.reset();
      return;
    }
    next_ = std::max(first, paused_until_);
    if (*next_ > now) return;
    Subject& subject = subjects_[*object];
    Told& told = subject.events[*message];
    const Resource::Version* place = places_(subject.key.kind);
    if (!place) {
      gone(told, now);
    } else if (take_token(subject, told, now)) {
      told.pending = std::max(told.pending, 1u);
      job_ = Job{*object, *message, Step::look, 0, 0, {subject.key, place->api_version, {}, {}}};
    }
  }
}

bool EventRecorder::take_token(Subject& subject, Told& told, base::Instant now) {
  using Level = http2::TokenBucket::Level;
  if (subject.bucket.take(limits_.object, now) == Level::exhausted) {
    told.pending = std::max(told.pending, 1u);
    told.due = now + limits_.object.interval;
  } else if (bucket_.take(limits_.all, now) == Level::exhausted) {
    subject.bucket.earn(1, limits_.object, now);
    paused_until_ = now + limits_.all.interval;
  } else {
    return true;
  }
  count(EventResult::limited);
  return false;
}

ApiRequest EventRecorder::ask(base::Instant) {
  Job& job = *job_;
  ApiRequest request;
  const ObjectKey& key = job.about.key;
  if (job.step == Step::look) {
    request.target = path_of(*places_(key.kind), key.namespace_name, key.name);
    request.form = ApiForm::metadata;
    return request;
  }
  const Told& told = subjects_[job.object].events[job.message];
  const std::string name = event_name(job.about, job.message);
  job.counted = std::max(told.pending, 1u);
  request.target = "/api/v1/namespaces/" + key.namespace_name + "/events";
  if (job.step == Step::create) {
    request.method = "POST";
    request.body = event_json(name, job.about, told.reason, job.message, job.counted, reporter_, wall());
    return request;
  }
  request.target += "/" + name;
  request.method = "PATCH";
  request.content_type = "application/merge-patch+json";
  request.body =
      job.step == Step::adopt
          ? adopted_event_json(reporter_)
          : repeated_event_json(job.about, std::min(told.count + job.counted, kMostCounted), reporter_, wall());
  return request;
}

void EventRecorder::on_answer(base::Instant now, const ApiAnswer& answer) {
  Subject& subject = subjects_[job_->object];
  Told& told = subject.events[job_->message];
  if (++job_->requests > kMostRequests) return put_off(told, {0, {}, "the server contradicts itself", {}}, now);
  const Step step = job_->step;
  switch (answer.outcome()) {
    case ApiOutcome::ok:
      return advance(subject, told, answer, now);
    case ApiOutcome::not_found:
      if (step == Step::look || step == Step::create) return gone(told, now);
      told.count = 0;
      job_->step = Step::create;
      return;
    case ApiOutcome::conflict:
      if (step != Step::create) return put_off(told, answer, now);
      job_->step = Step::adopt;
      return;
    case ApiOutcome::refused:
      return refused(told, answer, now);
    default:
      return put_off(told, answer, now);
  }
}

// By a good answer.
void EventRecorder::advance(Subject& subject, Told& told, const ApiAnswer& answer, base::Instant now) {
  const json object = json::parse(answer.body, nullptr, false);
  ObjectReference& about = job_->about;
  if (job_->step == Step::look) about.uid = metadata_text(object, "uid");
  if (!object.is_object() || about.uid.empty())
    return put_off(told, {0, {}, "the answer cannot be read: " + said(answer.body), {}}, now);
  problem_.clear();
  switch (job_->step) {
    case Step::look:
      subject.version = about.version = metadata_text(object, "resourceVersion");
      // Another object of the same name.
      if (std::exchange(told.uid, about.uid) != about.uid) told.count = 0;
      job_->step = told.count == 0 ? Step::create : Step::repeat;
      // It may be right again by now.
      if (told.wrong) return;
      job_.reset();
      next_ = now;
      return;
    case Step::adopt:
      told.count = count_of(object);
      return done(told, EventResult::adopted, now);
    case Step::create:
      told.count = job_->counted;
      return done(told, EventResult::created, now);
    case Step::repeat:
      told.count = std::min(told.count + job_->counted, kMostCounted);
      return done(told, EventResult::repeated, now);
  }
}

void EventRecorder::done(Told& told, EventResult result, base::Instant now) {
  told.pending -= result == EventResult::adopted ? told.pending : std::min(told.pending, job_->counted);
  told.due = now + limits_.settle;
  told.written = now;
  failures_ = forbidden_ = 0;
  count(result);
  job_.reset();
  next_ = now;
}

// Asking the same again would be of no use: the object's next version is told, or this one again much later.
void EventRecorder::refused(Told& told, const ApiAnswer& answer, base::Instant now) {
  problem_ = "an Event is refused: " + answer.problem();
  told.pending = 0;
  told.written = now;
  count(EventResult::refused);
  job_.reset();
  next_ = now;
}

// It is told anew if it is found to be wrong once more.
void EventRecorder::gone(Told& told, base::Instant now) {
  told.wrong = false;
  told.pending = told.count = 0;
  problem_.clear();
  count(EventResult::gone);
  job_.reset();
  next_ = now;
}

void EventRecorder::put_off(Told& told, const ApiAnswer& answer, base::Instant now) {
  const EventResult result = result_of(answer.outcome());
  count(result);
  problem_ = answer.problem();
  job_.reset();
  next_ = now;
  if (result == EventResult::forbidden) {
    // It may be this object's namespace alone (a quota, one that is being deleted).
    told.due = now + limits_.forbidden_retry;
    if (++forbidden_ >= kForbiddenInARow) paused_until_ = told.due;
    return;
  }
  base::Duration wait = limits_.first_backoff;
  for (uint32_t i = 0; i < failures_ && wait < limits_.longest_backoff; ++i) wait *= 2;
  ++failures_;
  wait = std::min(wait, limits_.longest_backoff);
  wait = wait / 2 + base::Duration(static_cast<int64_t>(random_() % static_cast<uint64_t>(wait.count() + 1)));
  wait = std::max(wait, std::min(answer.retry_after.value_or(base::Duration(0)), kLongestRetryAfter));
  // The others come first then.
  told.due = paused_until_ = now + wait;
}

}  // namespace weir::kubernetes
