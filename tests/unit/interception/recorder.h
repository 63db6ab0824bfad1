// Stand-ins for the two neighbours of Enrolment: the BPF map `pods` and the
// owner of the workers. Both write what happens into one list, in order.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "interception/enrolment.h"

namespace weir::interception::testing {

struct Recorder : EnrolmentEvents {
  PodWorker enrolled(EnrolledPod pod) override {
    log.push_back("enrolled " + pod.pod->uid);
    enrolled_at[pod.pod->uid] = base::MonotonicClock::now();
    std::string uid = pod.pod->uid;
    pods.insert_or_assign(uid, std::move(pod));
    return {3, 33};
  }
  void updated(std::shared_ptr<const config::Pod> pod) override { log.push_back("updated " + pod->uid); }
  void removed(const std::string& uid) override {
    log.push_back("removed " + uid);
    pods.erase(uid);
  }

  PodRows map() {
    PodRows map;
    map.get = [this](uint64_t cookie) -> base::Result<std::optional<weir_pod>> {
      auto row = rows.find(cookie);
      return row == rows.end() ? std::nullopt : std::optional(row->second);
    };
    map.list = [this]() -> base::Result<std::vector<std::pair<uint64_t, weir_pod>>> {
      return std::vector<std::pair<uint64_t, weir_pod>>(rows.begin(), rows.end());
    };
    map.set = [this](uint64_t cookie, const weir_pod& row) -> base::Result<void> {
      if (fail_set > 0 && fail_set--) return base::Error{"the map is full"};
      log.push_back("row");
      rows[cookie] = row;
      return {};
    };
    map.remove = [this](uint64_t cookie) -> base::Result<void> {
      brakes.erase(cookie);
      log.push_back("no row");
      rows.erase(cookie);
      return {};
    };
    map.withdraw = [this](uint64_t cookie) -> base::Result<void> {
      log.push_back("no row");
      rows.erase(cookie);
      return {};
    };
    map.mark = [this](int, uint64_t generation) -> base::Result<void> {
      if (fail_mark > 0 && fail_mark--) return base::Error{"no storage"};
      log.push_back("mark " + std::to_string(generation));
      return {};
    };
    return map;
  }

  std::vector<std::string> log;
  std::map<std::string, EnrolledPod> pods;
  std::map<std::string, base::Instant> enrolled_at;
  std::map<uint64_t, weir_pod> rows;
  std::set<uint64_t> brakes;
  int fail_set = 0, fail_mark = 0;  // how many calls fail
};

}  // namespace weir::interception::testing
