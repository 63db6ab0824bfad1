// Reflector follows one resource of the API server: lists it, then watches it from there, and again from the start when
// the server cannot go on (410 Gone). Sans I/O: it says what to ask and when, is fed the answer, and tells what
// changed. The initial list comes as a stream of events where the server has that (WatchList), else in pages.
// https://kubernetes.io/docs/reference/using-api/api-concepts/ Everything that the server says may be wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "config/finding.h"
#include "kubernetes/api_call.h"
#include "kubernetes/objects.h"
#include "kubernetes/resources.h"

namespace weir::kubernetes {

struct ReflectorSettings {
  // A watch is silent for a minute (bookmarks), an answer to a list never; then the request is made anew.
  base::Duration watch_silence = std::chrono::seconds(150);
  base::Duration list_silence = std::chrono::seconds(30);
  base::Duration first_backoff = std::chrono::milliseconds(200);  // doubled with each failure, half to one and a half
  base::Duration longest_backoff = std::chrono::seconds(30);
  base::Duration page_limit = std::chrono::minutes(5);  // a page may come slowly, but not for ever
  size_t page = 500;
  size_t max_event = size_t{8} << 20;  // etcd takes objects of 1.5 MiB
  size_t max_list = size_t{64} << 20;  // a server that ignores `limit`
};

// What a Reflector has heard. `resource` is the resource's name.
struct ApiChange {
  struct Put {
    Object object;
    std::vector<config::Finding> findings;
  };
  struct Rejected {
    ObjectKey key;
    std::vector<config::Finding> findings;
    std::string version;  // resourceVersion of what was rejected
  };
  // Of a kind that becomes no object, or of what cannot be one.
  struct Noted {
    ObjectKey key;
    std::vector<config::Finding> findings;
  };
  struct Removed {
    ObjectKey key;
  };
  // A list is complete: there are no others.
  struct Retained {
    std::set<ObjectKey> keys;
  };
  std::string resource;
  std::variant<Put, Rejected, Noted, Removed, Retained> what;
};

class Reflector final : public ApiCaller {
 public:
  // `changes` gets what is heard, and outlives this.
  Reflector(Resource resource, ReflectorSettings settings, uint64_t seed, std::vector<ApiChange>* changes);

  // Of pods that are known by their labels only: the labels that are kept. Takes effect with the next list.
  void keep_labels(std::set<std::string> keys) { kept_labels_ = std::move(keys); }
  // Lists anew as soon as it is asked for a request.
  void start_over(base::Instant now);

  // Never while the resource is missing: start_over() when that may be over.
  std::optional<base::Instant> due() const override { return running_ ? std::nullopt : due_; }
  ApiRequest begin(base::Instant now) override;
  // A list that comes as events goes on as a watch.
  base::Duration silence() const override {
    return mode_ == Mode::watch ? settings_.watch_silence : settings_.list_silence;
  }
  // A page comes in pieces, of events each counts as a whole.
  uint64_t progress() const override { return events_ + (mode_ == Mode::list ? received_.size() : 0); }
  void on_head(int status, std::optional<base::Duration> retry_after) override;
  bool on_bytes(std::string_view bytes) override;
  void on_end(base::Instant now, const std::string& error) override;

  const Resource& resource() const { return resource_; }
  const Resource::Version& version() const { return resource_.versions[version_]; }  // that is asked for
  bool synced() const { return synced_; }                                            // listed once, whatever came then
  // What is wrong now, for people; empty while all is well. "not installed" is not wrong.
  const std::string& problem() const { return problem_; }
  bool missing() const { return missing_; }
  bool running() const { return running_; }  // a request does
  int last_status() const { return status_; }
  uint64_t events() const { return events_; }  // of watches, since the start

 private:
  enum class Mode : uint8_t { streamed_list, list, watch };
  using json = nlohmann::json;

  void begin_list();
  void finish_list();
  bool on_event(std::string_view line);
  bool read_page();
  void put(json object);
  ObjectKey key_of_json(const json& object) const;
  void remove(const json& object);
  void take_version(const json& object);
  void refused(base::Instant now);
  void absent(base::Instant now);
  void fail(base::Instant now, std::string problem, std::optional<base::Duration> least = {});
  base::Duration jittered(base::Duration duration);

  const Resource resource_;
  const ReflectorSettings settings_;
  std::mt19937_64 random_;
  std::vector<ApiChange>* changes_;
  std::optional<std::set<std::string>> kept_labels_;

  bool streams_lists_ = true;  // until the server refuses
  Mode mode_ = Mode::streamed_list;
  size_t version_ = 0;  // of Resource::versions
  std::string resource_version_, continue_;
  std::set<ObjectKey> listed_;

  bool running_ = false, synced_ = false, missing_ = false, expired_ = false;
  int status_ = 0;
  std::optional<base::Duration> retry_after_;
  std::string received_;  // of the list, the current event, or what went wrong
  std::string broken_;    // why the answer was given up
  std::optional<base::Instant> due_ = base::Instant();
  base::Instant began_{};
  uint32_t failures_ = 0;
  uint32_t absences_ = 0;  // 404 of a resource that may be missing, since the last list
  std::string problem_;
  uint64_t events_ = 0;
};

}  // namespace weir::kubernetes
