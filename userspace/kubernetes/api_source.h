// ApiSource keeps an ObjectStore in step with the API server. Its own thread lists, watches and decodes; what changed
// waits in a queue until the store's thread takes it. What was heard stays while the server is away.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "kubernetes/api_access.h"
#include "kubernetes/api_transfers.h"
#include "kubernetes/event_writer.h"
#include "kubernetes/group_lookup.h"
#include "kubernetes/object_store.h"
#include "kubernetes/reflector.h"

namespace weir::kubernetes {

struct ApiSourceOptions {
  std::string node_name;                           // whose pods are read whole
  ObjectKey daemon_set{Kind::daemon_set, {}, {}};  // the agent's own, if it has a name
  std::string user_agent = "weir-agent";
  ReflectorSettings reflector;
  std::optional<EventOptions> events;  // nothing: none are written
};

// Of one resource.
struct ResourceStatus {
  std::string name;
  bool synced = false;           // listed once
  bool missing = false;          // the server does not have it (a CRD that is not installed)
  std::string problem;           // why it is not followed now; empty: it is
  base::Instant last_contact{};  // when the server last answered as it should
  uint64_t events = 0;
  std::map<std::string, uint64_t> requests;  // that were answered, by status code; "error": those that were not
};

class ApiSource {
 public:
  // The store must outlive this.
  ApiSource(ApiAccess access, ApiSourceOptions options, ObjectStore* store);
  ~ApiSource();

  // For the store's thread. Readable: call on_readable(), which returns whether the store changed.
  int fd() const { return news_.get(); }
  bool on_readable();
  // Whether every resource has been listed once, and has been taken.
  bool synced() const { return synced_; }

  // Thread-safe.
  const std::string& server() const { return server_; }
  std::vector<ResourceStatus> status() const;
  std::optional<EventStatus> events() const;
  // All that is wrong now: some of it becomes Events.
  void tell(EventWriter::Findings findings);
  // For good: another agent is to write them.
  void end_events();

 private:
  struct Followed {
    std::unique_ptr<Reflector> reflector;
    ResourceStatus status;
    bool running = false, counted = false;  // a request runs; its answer has been counted
    uint64_t seen_events = 0;
  };
  void run();
  void follow(Resource resource);
  void begin_due(base::Instant now);
  base::Instant next_due(base::Instant now);
  void step_events(base::Instant now);
  const Resource::Version* place_of(Kind kind) const;
  void note_ends(base::Instant now);
  void look_at_subsets(base::Instant now);
  void look_at_groups(base::Instant now);
  std::vector<ApiCaller*> short_callers();
  void hand_over();
  bool all_synced() const;
  bool apply(ApiChange& change);

  const std::string server_;
  const ApiSourceOptions options_;
  ObjectStore* store_;
  base::Fd news_;
  bool synced_ = false;  // the store's thread's

  // The API thread's own.
  ApiTransfers transfers_;
  std::vector<Followed> followed_;
  std::deque<GroupLookup> groups_;  // of those that may be missing
  std::vector<ApiChange> heard_;
  std::map<ObjectKey, std::set<std::string>> subset_labels_;  // by DestinationRule
  std::set<std::string> wanted_labels_;                       // of pods elsewhere
  std::optional<EventWriter> events_;

  mutable std::mutex mutex_;  // guards what follows
  std::vector<ApiChange> queue_;
  bool queue_synced_ = false;
  std::vector<ResourceStatus> status_;
  std::optional<EventStatus> event_status_;
  EventWriter::Findings findings_;  // that were told last

  std::atomic<bool> stopping_ = false, events_end_ = false;
  std::thread thread_;
};

}  // namespace weir::kubernetes
