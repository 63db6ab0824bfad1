// Many things at once, for the sanitizers: two workers of one node, a configuration that changes all the
// time, scrapes of the metrics, clients that come and go, backends that refuse, reset and die.
#include <mutex>
#include <random>
#include <thread>

#include "lab.h"
#include "telemetry/metrics.h"

namespace weir::proxy::testing {
namespace {

constexpr auto kTime = 2s;

struct StressTest : Lab {
  std::mt19937 random{42};
  size_t below(size_t n) { return random() % n; }

  // Answers, refuses or resets.
  void serve(StreamLog& log) {
    if (!log.stream || !log.ended) return;
    switch (log.sent > 0 || !log.stream->all_sent() ? 9 : below(20)) {
      case 0:
        return log.release(http::kRefusedStream);
      case 1:
        return log.release(http::kInternalError);
      case 2:
        return;  // never answers
      default:
        return echo(log);
    }
  }
};

TEST_F(StressTest, WorkersKeepTheirPromisesInTheMidstOfChange) {
  options.detection_timeout = 30ms;
  http2::Limits few;
  few.max_concurrent_streams = 20;
  for (int i = 0; i < 4; ++i) backend([this](StreamLog& log) { serve(log); }, few);
  add_endpoint(loopback(closed_port()));
  auto& closing = backend<RawBackend>();
  closing.on_accept = [](Peer& peer) { peer.close(); };
  start();
  const auto second_recorder = make_recorder();
  auto second = Worker::start(options, *second_recorder, snapshot());
  ASSERT_TRUE(second);
  auto listening = listen_on_loopback();
  const base::SocketAddress second_address = address_of(listening.get());
  (*second)->add_source(enrolled_pod("second-pod", std::move(listening)));

  std::atomic<bool> over = false;
  std::vector<std::shared_ptr<const config::Snapshot>> snapshots;
  const auto all = cluster.endpoints;
  for (size_t i = 0; i < 16; ++i) {
    cluster.endpoints.clear();
    for (size_t j = 0; j < all.size(); ++j)
      if (i == 0 || below(3) > 0) cluster.endpoints.push_back(all[j]);
    snapshots.push_back(snapshot());
  }
  service_exists = false;
  snapshots.push_back(snapshot());
  service_exists = true;
  std::mutex current_mutex;
  auto current = snapshots[0];
  telemetry::Metrics metrics;
  metrics.watch(recorder());
  metrics.watch(*second_recorder);
  metrics.use_snapshot([&] {
    const std::lock_guard lock(current_mutex);
    return current;
  });
  std::thread configuring([&] {
    for (size_t i = 0; !over; i = (i + 1) % snapshots.size()) {
      {
        const std::lock_guard lock(current_mutex);
        current = snapshots[i];
      }
      worker().set_snapshot(snapshots[i]);
      (*second)->set_snapshot(snapshots[i]).wait();
      std::this_thread::sleep_for(5ms);
    }
  });
  size_t scrapes = 0;
  std::thread reading([&] {
    while (!over) {
      scrapes += metrics.exposition().find("istio_requests_total{") != std::string::npos;
      static_cast<void>(gauges());
      static_cast<void>(worker().drained());
      std::this_thread::sleep_for(2ms);
    }
  });

  const base::Instant end = base::MonotonicClock::now() + kTime;
  size_t calls = 0, ended = 0;
  std::vector<std::unique_ptr<Wire>> apps(12);
  while (base::MonotonicClock::now() < end) {
    const size_t which = below(apps.size());
    auto& app = apps[which];
    if (!app) {
      app = std::make_unique<Wire>(connect_to(which % 2 == 0 ? listener_address : second_address), http2::Role::client);
      ASSERT_TRUE(app->open());
    }
    if (below(100) == 0) {
      Peer stranger(connect_to(listener_address));
      stranger.send(below(2) == 0 ? "PRI * HT" : "SSH-2.0");
    }
    for (size_t n = below(10); n > 0; --n, ++calls) {
      if (!app->endpoint.connection.can_open() && app->endpoint.connection.settings_received()) break;
      StreamLog& call = app->call();
      call.stream->send_data(slice_of(std::string(below(3000), 'x')), below(10) > 0);
      if (below(20) == 0) call.release(http::kCancel);
    }
    for (auto& each : apps)
      if (each) each->pump();
    settle(1ms);
    if (below(60) == 0 || app->ended || app->reset) {
      for (const auto& log : app->endpoint.logs) ended += complete(*log);
      below(2) == 0 ? app->close() : app->abort();
      app.reset();
    }
  }
  over = true;
  configuring.join();
  reading.join();
  apps.clear();
  EXPECT_GT(calls, 100u);
  EXPECT_GT(ended, 50u);
  EXPECT_GT(scrapes, 10u);
  const WorkerStats& other = (*second)->stats();
  EXPECT_TRUE(until([&] { return other.active_rpcs.value() == 0 && other.downstream_connections.value() == 0; }));
  (*second)->remove_source("second-pod");
  EXPECT_TRUE(until([&] { return other.transports.value() == 0; }));
}

}  // namespace
}  // namespace weir::proxy::testing
