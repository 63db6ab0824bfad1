// Lab: a Worker in its own thread without BPF, one source pod (the test's own network
// namespace), one service, and the clients and backends of wire.h in the test's
// thread. Every wait is bounded. At the end of each test all that was opened must be
// closed again: gauges, memory of the source, descriptors.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "interception/network_namespace.h"
#include "proxy/worker.h"
#include "telemetry/access_log.h"
#include "telemetry/recorder.h"
#include "wire.h"

namespace weir::proxy::testing {

using telemetry::Flag;
using namespace std::chrono_literals;

inline size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

class Lab : public ::testing::Test {
 protected:
  Lab() {
    // Opens this thread's own namespace for good, which is no leak.
    static_cast<void>(interception::NetworkNamespace::open("/proc/self/ns/net"));
    descriptors_before_ = open_descriptors();
    options.detection_timeout = 2s;
    options.mark_upstream = [](int) -> base::Result<void> { return {}; };
    options.original_destination = [this](int) { return std::optional(Diverted{vip, mode}); };
    cluster.name = "outbound|80||echo.default.svc.cluster.local";
    cluster.host = "echo.default.svc.cluster.local";
    cluster.port = vip.port;
  }

  void TearDown() override {
    for (auto& party : clients_) party->leave();
    if (worker_) {
      const WorkerStats& stats = worker_->stats();
      EXPECT_TRUE(until([&] { return stats.downstream_connections.value() == 0 && stats.active_rpcs.value() == 0; }))
          << gauges();
      for (auto& party : backends_) party->leave();
      EXPECT_TRUE(until([&] { return stats.tcp_relays.value() == 0; })) << gauges();
      worker_->remove_source("client-uid");
      EXPECT_TRUE(until([&] {
        return stats.transports.value() == 0 && stats.upstream_connections.value() == 0 && stats.sources.value() == 0;
      })) << gauges();
      worker_.reset();
    }
    EXPECT_TRUE(source_gone());
    parties_.clear();
    clients_.clear();
    backends_.clear();
    recorder_.reset();
    log_.reset();
    EXPECT_EQ(open_descriptors(), descriptors_before_);
  }

  // Starts the worker with the endpoints that have been added so far.
  void start() {
    auto log = telemetry::AccessLog::open({telemetry::LogMode::all, telemetry::LineFormat::json, access_log});
    ASSERT_TRUE(log) << log.error().message;
    log_ = std::move(*log);
    recorder_ = make_recorder();
    auto worker = Worker::start(options, *recorder_, snapshot());
    ASSERT_TRUE(worker) << worker.error().message;
    worker_ = std::move(*worker);
    enrol();
  }
  void enrol() {
    auto listening = listen_on_loopback();
    listener_address = address_of(listening.get());
    auto enrolled = enrolled_pod("client-uid", std::move(listening));
    namespace_ = enrolled.netns;
    worker_->add_source(std::move(enrolled));
  }
  static interception::EnrolledPod enrolled_pod(std::string uid, base::Fd listening) {
    auto netns = interception::NetworkNamespace::open("/proc/self/ns/net");
    EXPECT_TRUE(netns) << netns.error().message;
    auto pod = std::make_shared<config::Pod>();
    pod->namespace_name = "default";
    pod->name = "client";
    pod->uid = std::move(uid);
    pod->ips = {*base::IpAddress::parse("10.1.2.3")};
    interception::EnrolledPod enrolled;
    enrolled.pod = std::move(pod);
    enrolled.netns = std::make_shared<interception::NetworkNamespace>(std::move(*netns));
    enrolled.port = address_of(listening.get()).port;
    enrolled.listener_v4 = std::move(listening);
    return enrolled;
  }
  // The worker holds nothing any more of the pod enrolled last.
  bool source_gone() const { return namespace_.expired(); }

  // The configuration as `cluster` and `service_exists` have it now.
  std::shared_ptr<const config::Snapshot> snapshot() {
    auto made = std::make_shared<config::Snapshot>();
    made->revision = ++revision_;
    made->default_retries = default_retries;
    if (!service_exists) return made;
    auto service = std::make_shared<config::Service>();
    service->namespace_name = "default";
    service->name = "echo";
    service->fqdn = "echo.default.svc.cluster.local";
    service->vips = {vip.ip};
    auto shared = std::make_shared<config::Cluster>(cluster);
    std::sort(shared->endpoints.begin(), shared->endpoints.end(),
              [](const auto& a, const auto& b) { return a.address < b.address; });
    service->ports.push_back(
        {"grpc", vip.port, config::Protocol::grpc, config::Mode::l7, "port name grpc", std::move(shared), views});
    service->virtual_services = virtual_services;
    made->services.push_back(service);
    auto directory = std::make_shared<config::Directory>();
    directory->by_host[service->fqdn] = 0;
    directory->by_address[vip] = {0, 0};
    made->directory = std::move(directory);
    return made;
  }
  void apply() { worker_->set_snapshot(snapshot()).wait(); }

  void add_endpoint(const base::SocketAddress& address) { cluster.endpoints.push_back({address, "", ""}); }
  void remove_endpoint(const base::SocketAddress& address) {
    std::erase_if(cluster.endpoints, [&](const auto& e) { return e.address == address; });
  }
  template <class B = Backend, class... Arguments>
  B& backend(Arguments&&... arguments) {
    auto made = std::make_unique<B>(std::forward<Arguments>(arguments)...);
    B& added = *made;
    add_endpoint(added.address());
    backends_.push_back(std::move(made));
    parties_.push_back(&added);
    return added;
  }

  Wire& client(const http2::Limits& limits = {}) {
    return add_client(std::make_unique<Wire>(connect_to(listener_address), http2::Role::client, limits));
  }
  Wire& add_client_at(const base::SocketAddress& address) {
    return add_client(std::make_unique<Wire>(connect_to(address), http2::Role::client));
  }
  Peer& raw_client() { return raw_client(connect_to(listener_address)); }
  Peer& raw_client(base::Fd connected) { return add_client(std::make_unique<Peer>(std::move(connected))); }

  void pump() {
    for (Party* party : parties_) party->pump();
  }
  // Pumps all parties until `met()`; false if that takes longer than `limit`.
  template <class Condition>
  bool until(Condition met, base::Duration limit = 10s) {
    const base::Instant give_up = base::MonotonicClock::now() + limit;
    while (true) {
      pump();
      if (met()) return true;
      if (base::MonotonicClock::now() > give_up) return false;
      std::vector<pollfd> polls;
      for (const Party* party : parties_) party->add_polls(polls);
      // What the worker counts is not signalled, so waits are short.
      poll(polls.data(), polls.size(), 2);
    }
  }
  bool until_complete(const std::vector<StreamLog*>& calls, base::Duration limit = 10s) {
    return until([&] { return std::all_of(calls.begin(), calls.end(), [](StreamLog* c) { return complete(*c); }); },
                 limit);
  }
  bool until_complete(const StreamLog& call, base::Duration limit = 10s) {
    return until([&] { return complete(call); }, limit);
  }
  // Pumps for that long: for what must not happen.
  void settle(base::Duration time = 50ms) {
    until([] { return false; }, time);
  }

  // For another worker: each has its own.
  std::unique_ptr<telemetry::Recorder> make_recorder() { return std::make_unique<telemetry::Recorder>(*log_); }
  const telemetry::Recorder& recorder() const { return *recorder_; }
  Worker& worker() { return *worker_; }
  const WorkerStats& stats() const { return worker_->stats(); }
  // The worker stands still from now until what is returned is set.
  std::promise<void> stop_worker() {
    std::promise<void> go, stopped;
    worker().reactor().post([waiting = go.get_future().share(), &stopped] {
      stopped.set_value();
      waiting.wait();
    });
    stopped.get_future().wait();
    return go;
  }
  // Runs `look` on the worker's thread.
  template <class Look>
  auto on_worker(Look look) {
    std::promise<decltype(look())> done;
    auto result = done.get_future();
    worker_->reactor().post([&] { done.set_value(look()); });
    return result.get();
  }
  // While it lives, each turn of the worker takes at least `time`, so that what happens at about the
  // same time is seen in one turn.
  class SlowTurns {
   public:
    SlowTurns(Lab& lab, base::Duration time) : lab_(lab), time_(time) { slow_down(); }
    ~SlowTurns() {
      over_ = true;
      lab_.on_worker([] { return 0; });  // after the last one
      lab_.on_worker([] { return 0; });
    }

   private:
    void slow_down() {
      lab_.worker().reactor().post([this] {
        std::this_thread::sleep_for(time_);
        if (!over_) slow_down();
      });
    }
    Lab& lab_;
    const base::Duration time_;
    std::atomic<bool> over_ = false;
  };
  // Bytes that wait in the worker because of the pod.
  int64_t memory() {
    return on_worker([this] { return worker_->source("client-uid")->memory(); });
  }
  uint32_t receive_buffers() {
    return on_worker([this] { return worker_->reactor().buffers().allocated(); });
  }

  // Whether exactly one relayed connection has ended with the flag.
  bool relay_ended_with(telemetry::Flag flag) const {
    const auto all = totals();
    return std::any_of(all.tcps.begin(), all.tcps.end(), [&](const auto& entry) {
      return flags_of(entry.first.flags).has(flag) && entry.second.duration_ms.count() == 1;
    });
  }

  struct Outcome {
    uint64_t rpcs = 0;
    int response_code = 0;
    int grpc_status = -1;
    telemetry::Flags flags;
  };
  // What has been recorded of RPCs, by outcome.
  std::vector<Outcome> outcomes() const {
    telemetry::Totals totals;
    recorder_->collect(totals);
    std::vector<Outcome> all;
    for (const auto& [labels, sums] : totals.rpcs)
      all.push_back({sums.duration_ms.count(), labels.response_code, labels.grpc_status, flags_of(labels.flags)});
    return all;
  }
  // "200 grpc 14 UF x3", one for each outcome, in that order.
  std::string recorded() const {
    std::set<std::string> lines;
    for (const Outcome& o : outcomes()) {
      lines.insert(std::to_string(o.response_code) + " grpc " + std::to_string(o.grpc_status) + " " +
                   o.flags.to_string() + " x" + std::to_string(o.rpcs));
    }
    std::string text;
    for (const std::string& line : lines) text += (text.empty() ? "" : "; ") + line;
    return text;
  }
  ::testing::AssertionResult recorded_becomes(const std::string& expected) {
    if (until([&] { return recorded() == expected; }, 3s)) return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "recorded: " << recorded();
  }
  telemetry::Totals totals() const {
    telemetry::Totals totals;
    recorder_->collect(totals);
    return totals;
  }
  std::string gauges() const {
    const WorkerStats& s = worker_->stats();
    return "downstream " + std::to_string(s.downstream_connections.value()) + " upstream " +
           std::to_string(s.upstream_connections.value()) + " relays " + std::to_string(s.tcp_relays.value()) +
           " transports " + std::to_string(s.transports.value()) + " rpcs " + std::to_string(s.active_rpcs.value());
  }

  const base::SocketAddress vip{*base::IpAddress::parse("10.96.0.10"), 80};
  WorkerOptions options;
  config::Cluster cluster;
  std::vector<std::shared_ptr<const config::VirtualService>> virtual_services;
  config::RetryPolicy default_retries = config::default_retry_policy();
  std::vector<config::ClusterView> views;
  bool service_exists = true;
  std::string access_log = "/dev/null";
  config::Mode mode = config::Mode::l7;
  base::SocketAddress listener_address;

  static telemetry::Flags flags_of(uint32_t bits) {
    telemetry::Flags flags;
    for (uint32_t bit = 1; bit != 0 && bit <= bits; bit <<= 1)
      if (bits & bit) flags.set(static_cast<Flag>(bit));
    return flags;
  }

 private:
  template <class C>
  C& add_client(std::unique_ptr<C> made) {
    C& added = *made;
    EXPECT_TRUE(added.open());
    clients_.push_back(std::move(made));
    parties_.push_back(&added);
    return added;
  }

  size_t descriptors_before_ = 0;
  uint64_t revision_ = 0;
  std::unique_ptr<telemetry::AccessLog> log_;
  std::unique_ptr<telemetry::Recorder> recorder_;
  std::unique_ptr<Worker> worker_;
  std::weak_ptr<const interception::NetworkNamespace> namespace_;
  std::vector<std::unique_ptr<Party>> backends_;
  std::vector<std::unique_ptr<Peer>> clients_;
  std::vector<Party*> parties_;
};

}  // namespace weir::proxy::testing
