// Misdeclared: one worker's count of connections to ports that declare HTTP/2 and were something else, by
// service and port. The worker counts without a lock; other threads read at any time.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>

#include "config/snapshot.h"
#include "telemetry/counters.h"

namespace weir::telemetry {

// Of the configuration, never of what a client says.
struct ServicePortLabels {
  std::string service_namespace, service_name;
  std::string port;
  auto operator<=>(const ServicePortLabels&) const = default;
};

class Misdeclared {
 public:
  // Bounds memory: ports beyond `most` are counted in one entry whose labels are all "other".
  explicit Misdeclared(size_t most = 1024) : entries_(most + 1) {}

  void count(const config::Service& service, uint16_t port);        // the worker's thread
  void collect(std::map<ServicePortLabels, uint64_t>& into) const;  // any thread: adds its counts

 private:
  struct Entry {
    ServicePortLabels labels;
    Counter connections;
  };
  Entry& entry(ServicePortLabels labels);

  std::map<ServicePortLabels, Entry*> index_;  // the worker's
  PublishedList<Entry> entries_;
};

}  // namespace weir::telemetry
