#include "telemetry/recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "counting_allocator.h"
#include "mesh.h"

namespace weir::telemetry {
namespace {

class RecorderTest : public testing::Test {
 protected:
  explicit RecorderTest(LogMode mode = LogMode::failed, size_t queue = 4096) {
    AccessLogOptions options;
    options.path = folder_.log();
    options.mode = mode;
    options.queue = queue;
    options.namespaces = {{"loud", LogMode::all}, {"quiet", LogMode::off}};
    log_ = AccessLog::open(options).value();
  }
  std::string logged() {
    log_.reset();
    return read_file(folder_.log());
  }
  static Totals totals(const Recorder& recorder) {
    Totals totals;
    recorder.collect(totals);
    return totals;
  }

  TemporaryFolder folder_;
  std::unique_ptr<AccessLog> log_;
  Mesh mesh_;
};

TEST_F(RecorderTest, AddsUpRpcsOfOneKind) {
  Recorder recorder(*log_);
  for (size_t i = 0; i < 9; ++i) recorder.record(mesh_.rpc(i % 3));
  const Totals sums = totals(recorder);
  ASSERT_EQ(sums.rpcs.size(), 1u);  // three pods of one workload
  const auto& [labels, rpcs] = *sums.rpcs.begin();
  EXPECT_EQ(labels.source.workload, "greeter-client");
  EXPECT_EQ(labels.response_code, 200);
  EXPECT_EQ(labels.grpc_status, 0);
  EXPECT_EQ(rpcs.duration_ms.count(), 9u);
  EXPECT_DOUBLE_EQ(rpcs.duration_ms.sum, 63.0);
  EXPECT_EQ(rpcs.duration_ms.buckets[3], 9u);  // 5 < 7 <= 10 ms
  EXPECT_DOUBLE_EQ(rpcs.response_bytes.sum, 9 * 345.0);
  EXPECT_EQ(rpcs.request_messages, 9u);
  ASSERT_EQ(sums.endpoints.size(), 3u);
  for (const auto& [endpoint, counts] : sums.endpoints) {
    EXPECT_EQ(counts.rpcs, 3u);
    EXPECT_EQ(counts.failures, 0u);
    EXPECT_EQ(counts.service_name, "greeter");
  }
}

TEST_F(RecorderTest, OutcomesAreSeriesOfTheirOwn) {
  Recorder recorder(*log_);
  recorder.record(mesh_.rpc());
  recorder.record(mesh_.failed_rpc());
  Rpc plain = mesh_.rpc();
  plain.grpc = false;
  plain.grpc_status = -1;
  recorder.record(plain);
  const Totals sums = totals(recorder);
  EXPECT_EQ(sums.rpcs.size(), 3u);
  EXPECT_EQ(sums.endpoints.begin()->second.rpcs, 3u);
  EXPECT_EQ(sums.endpoints.begin()->second.failures, 1u);
}

TEST_F(RecorderTest, WhatABackendMakesUpMakesNoSeries) {
  Recorder recorder(*log_);
  for (int i = 0; i < 1000; ++i) {
    Rpc rpc = mesh_.rpc();
    rpc.grpc_status = 17 + i;
    recorder.record(rpc);
    rpc.response_code = 600 + i;
    recorder.record(rpc);
  }
  EXPECT_EQ(totals(recorder).rpcs.size(), 2u);
}

TEST_F(RecorderTest, AnEndpointIsKnownByItsAddressNotByWhereItsCopyIs) {
  Recorder recorder(*log_);
  config::Endpoint copy;
  for (int i = 0; i < 6; ++i) {
    copy = mesh_.cluster->endpoints[static_cast<size_t>(i % 3)];
    Rpc rpc = mesh_.rpc();
    rpc.endpoint = &copy;
    recorder.record(rpc);
  }
  const Totals sums = totals(recorder);
  ASSERT_EQ(sums.endpoints.size(), 3u);
  for (const auto& [endpoint, counts] : sums.endpoints) EXPECT_EQ(counts.rpcs, 2u);
}

TEST_F(RecorderTest, AnObjectAtAFormerObjectsAddressIsAnotherAfterAChange) {
  Recorder recorder(*log_);
  recorder.record(mesh_.rpc());
  mesh_.client.name = "other-client";
  mesh_.client.labels.clear();
  recorder.snapshot_changed();
  recorder.record(mesh_.rpc());
  const Totals sums = totals(recorder);
  ASSERT_EQ(sums.rpcs.size(), 2u);
  EXPECT_EQ(sums.rpcs.begin()->first.source.workload, "greeter-client");
  EXPECT_EQ(sums.rpcs.rbegin()->first.source.workload, "other-client");
}

TEST_F(RecorderTest, ASeriesGoesOnAfterAChange) {
  Recorder recorder(*log_);
  recorder.record(mesh_.rpc());
  recorder.snapshot_changed();
  recorder.record(mesh_.rpc());
  const Totals sums = totals(recorder);
  ASSERT_EQ(sums.rpcs.size(), 1u);
  EXPECT_EQ(sums.rpcs.begin()->second.duration_ms.count(), 2u);
}

TEST_F(RecorderTest, NothingIsAllocatedInSteadyState) {
  Recorder recorder(*log_);
  const Rpc rpcs[] = {mesh_.rpc(0), mesh_.rpc(1), mesh_.rpc(2)};
  for (const Rpc& rpc : rpcs) recorder.record(rpc);
  const uint64_t before = allocations();
  for (int i = 0; i < 100'000; ++i) recorder.record(rpcs[i % 3]);
  EXPECT_EQ(allocations(), before);
}

class LoggingRecorderTest : public RecorderTest {
 protected:
  LoggingRecorderTest() : RecorderTest(LogMode::all, 32) {}
};

TEST_F(LoggingRecorderTest, LoggingAllocatesNothingOnTheWorkerEither) {
  Recorder recorder(*log_);
  const Rpc rpc = mesh_.rpc();
  const auto fill_queue = [&] {
    for (int i = 0; i < 32; ++i) recorder.record(rpc);
    while (log_->written() + log_->dropped() < totals(recorder).rpcs.begin()->second.duration_ms.count()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  };
  // The queue's records, and those that the writer swaps them with, grow to the traffic's size once.
  for (int i = 0; i < 4; ++i) fill_queue();
  const uint64_t before = allocations();
  for (int i = 0; i < 32; ++i) recorder.record(rpc);
  EXPECT_EQ(allocations(), before);
}

TEST_F(RecorderTest, TheRestIsCountedAsOther) {
  Recorder recorder(*log_, {.series = 4, .endpoints = 2});
  for (int i = 0; i < 10; ++i) {
    mesh_.client.name = "client-of-" + std::string(1, static_cast<char>('a' + i));
    mesh_.client.labels.clear();
    recorder.snapshot_changed();
    recorder.record(mesh_.rpc(static_cast<size_t>(i % 3)));
  }
  const Totals sums = totals(recorder);
  EXPECT_EQ(sums.rpcs.size(), 5u);
  uint64_t all = 0, other = 0;
  for (const auto& [labels, rpcs] : sums.rpcs) {
    all += rpcs.duration_ms.count();
    if (labels.response_code == kOtherCode) {
      other += rpcs.duration_ms.count();
      EXPECT_EQ(labels.source.workload, "other");
    }
  }
  EXPECT_EQ(all, 10u);
  EXPECT_EQ(other, 6u);
  EXPECT_EQ(sums.endpoints.size(), 2u);
}

TEST_F(RecorderTest, IdleSeriesMakeRoomWhenItGetsCrowded) {
  Recorder recorder(*log_, {.series = 3, .endpoints = 100, .idle = std::chrono::nanoseconds(0)});
  const auto record_as = [&](const char* name) {
    mesh_.client.name = name;
    mesh_.client.labels.clear();
    recorder.snapshot_changed();
    recorder.record(mesh_.rpc());
  };
  record_as("a");
  record_as("b");
  record_as("c");
  record_as("c");  // crowded: all were busy since the beginning
  record_as("c");  // a and b were idle since
  Totals sums = totals(recorder);
  ASSERT_EQ(sums.rpcs.size(), 1u);
  EXPECT_EQ(sums.rpcs.begin()->first.source.workload, "c");
  EXPECT_EQ(sums.rpcs.begin()->second.duration_ms.count(), 3u);
  record_as("a");  // comes back from zero
  sums = totals(recorder);
  ASSERT_EQ(sums.rpcs.size(), 2u);
  EXPECT_EQ(sums.rpcs.begin()->second.duration_ms.count(), 1u);
}

TEST_F(RecorderTest, CountsTcpConnections) {
  Recorder recorder(*log_);
  TcpConnection connection;
  connection.source = &mesh_.client;
  connection.service = &mesh_.service;
  connection.endpoint = &mesh_.cluster->endpoints[0];
  connection.bytes_received = 10;
  connection.bytes_sent = 20;
  connection.ended = connection.started + std::chrono::milliseconds(30);
  recorder.opened(connection);
  recorder.opened(connection);
  recorder.record(connection);
  const Totals sums = totals(recorder);
  ASSERT_EQ(sums.tcps.size(), 1u);
  const TcpTotals& tcp = sums.tcps.begin()->second;
  EXPECT_EQ(tcp.opened, 2u);
  EXPECT_EQ(tcp.duration_ms.count(), 1u);
  EXPECT_EQ(tcp.duration_ms.sum, 30);
  EXPECT_EQ(tcp.bytes_sent, 20u);
  EXPECT_TRUE(sums.rpcs.empty());
}

TEST_F(RecorderTest, FailedIsTheDefaultOfTheLogAndNamespacesMayDiffer) {
  Recorder recorder(*log_);
  const auto record_in = [&](const char* namespace_name, const Rpc& rpc, const char* path) {
    mesh_.client.namespace_name = namespace_name;
    recorder.snapshot_changed();
    Rpc copy = rpc;
    copy.path = path;
    recorder.record(copy);
  };
  record_in("default", mesh_.rpc(), "/default-good");
  record_in("default", mesh_.failed_rpc(), "/default-bad");
  record_in("loud", mesh_.rpc(), "/loud-good");
  record_in("quiet", mesh_.failed_rpc(), "/quiet-bad");
  const std::string lines = logged();
  EXPECT_THAT(lines, testing::HasSubstr("/default-bad"));
  EXPECT_THAT(lines, testing::HasSubstr("/loud-good"));
  EXPECT_THAT(lines, testing::Not(testing::HasSubstr("/default-good")));
  EXPECT_THAT(lines, testing::Not(testing::HasSubstr("/quiet-bad")));
}

TEST_F(RecorderTest, MayBeReadWhileItRecords) {
  Recorder recorder(*log_, {.series = 64, .endpoints = 64, .idle = std::chrono::nanoseconds(0)});
  std::atomic<bool> done{false};
  uint64_t seen = 0;
  std::thread reader([&] {
    while (!done) {
      uint64_t now = 0;
      for (const auto& [labels, rpcs] : totals(recorder).rpcs) now += rpcs.duration_ms.count();
      seen = std::max(seen, now);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    mesh_.client.name = "client" + std::string(1, static_cast<char>('a' + i % 26));
    mesh_.client.labels.clear();
    recorder.snapshot_changed();
    for (size_t k = 0; k < 3; ++k) recorder.record(mesh_.rpc(k));
  }
  done = true;
  reader.join();
  EXPECT_LE(seen, 6000u);
}

}  // namespace
}  // namespace weir::telemetry
