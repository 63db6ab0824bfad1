// EventRecorder writes findings to the API server as Events. It is told what is wrong now, and writes what is new: a
// finding that comes back, or is about a newer version of its object, or stays for long, counts one more on the Event
// that it has. Like client-go's recorder it gives each object a burst of Events and then few, and here nothing is lost
// by that: what is still wrong is written later. One request at a time; the memory is bounded. Sans I/O.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "config/finding.h"
#include "http2/token_bucket.h"
#include "kubernetes/api_answer.h"
#include "kubernetes/event_object.h"
#include "kubernetes/resources.h"

namespace weir::kubernetes {

// What became of an Event, or of a request for it.
enum class EventResult : uint8_t {
  created,
  repeated,   // its count was raised
  adopted,    // another agent had written it
  limited,    // put off by a rate limit, or left out for there are too many
  gone,       // the object, or its namespace, is not there any more
  forbidden,  // by RBAC, a quota or an admission webhook
  throttled,  // 429
  refused,    // the server finds the request wrong
  failed,     // any other answer, or none
};
inline constexpr std::array<const char*, 9> kEventResults{"created",   "repeated",  "adopted", "limited", "gone",
                                                          "forbidden", "throttled", "refused", "failed"};
using EventCounts = std::array<uint64_t, kEventResults.size()>;
// Of an answer that is no good.
EventResult result_of(ApiOutcome failure);

struct EventLimits {
  // As client-go's EventSourceObjectSpamFilter has it, and one for all objects.
  http2::TokenRate object{25, std::chrono::minutes(5)};
  http2::TokenRate all{20, std::chrono::seconds(1)};
  size_t most = 1000;                                      // Events that are known at a time
  base::Duration settle = std::chrono::seconds(1);         // what is over by then was nothing
  base::Duration repeat_every = std::chrono::minutes(30);  // the server forgets Events after an hour
  base::Duration first_backoff = std::chrono::seconds(1);  // half to one and a half of it; doubled by failures
  base::Duration longest_backoff = std::chrono::minutes(1);
  base::Duration forbidden_retry = std::chrono::minutes(10);  // of one Event; of all after three in a row
};

class EventRecorder final : public ShortCaller {
 public:
  // Where the objects of a kind are in the API server; null: nowhere. Valid until the next call.
  using Places = std::function<const Resource::Version*(Kind)>;

  EventRecorder(EventReporter reporter, Places places, EventLimits limits, uint64_t seed);

  // All that is wrong now. Findings that become no Events are passed over.
  void set_findings(std::span<const config::Finding> findings, base::Instant now);
  // The server has told a version of an object that is wrong as a whole.
  void on_rejected(const ObjectKey& key, std::string_view version, base::Instant now);
  // Forgets everything. A request that runs is to be cancelled.
  void stop();
  // Decides what the next request is about, which due() then says to begin.
  void choose(base::Instant now);
  // When to choose, if not before.
  std::optional<base::Instant> choose_at() const { return job_ ? std::nullopt : next_; }

  const EventCounts& counts() const { return counts_; }
  // Why nothing can be written now; empty: nothing is wrong.
  const std::string& problem() const { return problem_; }

 private:
  enum class Step : uint8_t { look, create, adopt, repeat };
  struct Told {
    std::string_view reason;
    bool wrong = false;    // still
    uint64_t round = 0;    // of set_findings() that had it last
    uint32_t pending = 0;  // occurrences that are not in the Event yet
    uint32_t count = 0;    // those that are; 0: there may be no Event
    std::string uid;       // of the object that it is about
    base::Instant due{};   // when to write what is pending, at the earliest
    base::Instant written{};
  };
  struct Subject {
    ObjectKey key;
    std::string version;  // resourceVersion that was seen last
    http2::TokenBucket bucket;
    std::map<std::string, Told> events;  // by message
  };
  struct Job {
    std::string object, message;
    Step step = Step::look;
    int requests = 0;
    uint32_t counted = 0;  // pending occurrences that the request has
    ObjectReference about;
  };

  std::optional<base::Instant> next() const override {
    return job_ ? std::optional(base::Instant::min()) : std::nullopt;
  }
  ApiRequest ask(base::Instant now) override;
  // An object's annotations may hold it once more (last-applied-configuration); etcd takes 1.5 MiB.
  size_t max_answer() const override { return size_t{2} << 20; }
  void on_answer(base::Instant now, const ApiAnswer& answer) override;
  Told* track(const config::Finding& finding);  // null: there are too many
  // What is not wrong any more, if it was written before that time.
  void forget(base::Instant written_before);
  base::Instant write_at(const Told& told) const;
  bool take_token(Subject& subject, Told& told, base::Instant now);
  void advance(Subject& subject, Told& told, const ApiAnswer& answer, base::Instant now);
  void done(Told& told, EventResult result, base::Instant now);
  void refused(Told& told, const ApiAnswer& answer, base::Instant now);
  void gone(Told& told, base::Instant now);
  void put_off(Told& told, const ApiAnswer& answer, base::Instant now);
  void count(EventResult result) { ++counts_[static_cast<size_t>(result)]; }

  const EventReporter reporter_;
  const Places places_;
  const EventLimits limits_;
  std::mt19937_64 random_;
  std::map<std::string, Subject> subjects_;  // by Finding::object
  uint64_t round_ = 0;
  bool may_make_room_ = true;  // once in a round: what is told of in it stays
  size_t tracked_ = 0, left_out_ = 0;
  std::optional<Job> job_;
  std::optional<base::Instant> next_;  // when to choose again
  base::Instant paused_until_ = base::Instant::min();
  http2::TokenBucket bucket_;
  uint32_t failures_ = 0, forbidden_ = 0;  // in a row
  EventCounts counts_{};
  std::string problem_;
};

}  // namespace weir::kubernetes
