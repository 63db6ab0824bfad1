#include "telemetry/access_log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "counting_allocator.h"
#include "mesh.h"
#include "telemetry/escape.h"

namespace weir::telemetry {
namespace {

using nlohmann::json;
using testing::HasSubstr;

constexpr auto kEpoch = std::chrono::seconds(1'606'339'489) - std::chrono::seconds(100);  // the RPC starts at 100 s

TEST(LogRecord, IsIstiosDefaultTextLine) {
  const Mesh mesh;
  LogRecord record;
  record.fill(mesh.rpc(), kEpoch);
  std::string line;
  record.append_text(line);
  EXPECT_EQ(line,
            "[2020-11-25T21:24:49.000Z] \"POST /hello.Greeter/SayHello HTTP/2\" 200 - via_upstream - \"-\" 12 345 7 3 "
            "\"-\" \"grpc-go/1.60\" \"-\" \"greeter.shop:50051\" \"10.0.0.1:50051\" "
            "outbound|50051||greeter.shop.svc.cluster.local 10.0.1.5:41000 10.96.0.10:50051 10.0.1.5:40000 - -");
}

TEST(LogRecord, SaysWhyAnRpcFailed) {
  const Mesh mesh;
  Rpc rpc = mesh.failed_rpc();
  rpc.upstream_headers = {};
  rpc.upstream_local = {};
  LogRecord record;
  record.fill(rpc, kEpoch);
  std::string line;
  record.append_text(line);
  EXPECT_TRUE(record.failed());
  EXPECT_THAT(line,
              HasSubstr("200 UF upstream_reset_before_response_started - \"connect: Connection refused\" 12 345 7 - "));
  EXPECT_THAT(line, HasSubstr("svc.cluster.local - 10.96.0.10:50051"));
}

TEST(LogRecord, HasIstiosJsonKeys) {
  const Mesh mesh;
  LogRecord record;
  record.fill(mesh.failed_rpc(), kEpoch);
  std::string line;
  record.append_json(line);
  const json object = json::parse(line);
  for (const char* key : {"start_time",
                          "method",
                          "path",
                          "protocol",
                          "response_code",
                          "response_flags",
                          "response_code_details",
                          "connection_termination_details",
                          "upstream_transport_failure_reason",
                          "bytes_received",
                          "bytes_sent",
                          "duration",
                          "upstream_service_time",
                          "x_forwarded_for",
                          "user_agent",
                          "request_id",
                          "authority",
                          "upstream_host",
                          "upstream_cluster",
                          "upstream_local_address",
                          "downstream_local_address",
                          "downstream_remote_address",
                          "requested_server_name",
                          "route_name"}) {
    EXPECT_TRUE(object.contains(key)) << key;
  }
  EXPECT_EQ(object["response_code"], 200);
  EXPECT_EQ(object["duration"], 7);
  EXPECT_EQ(object["upstream_service_time"], "3");
  EXPECT_EQ(object["response_flags"], "UF");
  EXPECT_EQ(object["grpc_status"], "Unavailable");
  EXPECT_EQ(object["grpc_status_number"], 14);
  EXPECT_EQ(object["source_pod"], "greeter-client-7d4b9c8f6d-x2k4z");
  EXPECT_EQ(object["destination_pod"], "greeter-1");
  EXPECT_TRUE(object["route_name"].is_null());
}

TEST(LogRecord, IsReusable) {
  const Mesh mesh;
  LogRecord record;
  record.fill(mesh.rpc(), kEpoch);
  TcpConnection connection;
  connection.service = &mesh.service;
  record.fill(connection, kEpoch);
  std::string line;
  record.append_json(line);
  const json object = json::parse(line);
  EXPECT_TRUE(object["path"].is_null());
  EXPECT_TRUE(object["upstream_host"].is_null());
  EXPECT_TRUE(object["grpc_status"].is_null());
  EXPECT_EQ(object["destination_service"], "greeter.shop.svc.cluster.local");
}

TEST(LogRecord, LongTextsAreCut) {
  const Mesh mesh;
  const std::string path(100'000, 'p');
  Rpc rpc = mesh.rpc();
  rpc.path = path;
  LogRecord record;
  record.fill(rpc, kEpoch);
  EXPECT_EQ(record.text(LogRecord::path).size(), 1024u);
  EXPECT_EQ(record.text(LogRecord::authority), "greeter.shop:50051");
}

struct EscapeCase {
  std::string raw, text, json;
};

void PrintTo(const EscapeCase& tested, std::ostream* out) { *out << testing::PrintToString(tested.raw); }

class Escape : public testing::TestWithParam<EscapeCase> {};

TEST_P(Escape, KeepsALineALine) {
  std::string text, json_text;
  append_escaped(text, GetParam().raw);
  append_json_string(json_text, GetParam().raw);
  EXPECT_EQ(text, GetParam().text);
  EXPECT_EQ(json_text, GetParam().json);
  EXPECT_TRUE(json::accept(json_text));
}

INSTANTIATE_TEST_SUITE_P(
    Values, Escape,
    testing::Values(EscapeCase{"plain text", "plain text", "\"plain text\""},
                    EscapeCase{"a\nb\rc\t", "a\\x0ab\\x0dc\\x09", "\"a\\u000ab\\u000dc\\u0009\""},
                    EscapeCase{"say \"hi\" \\o", "say \\x22hi\\x22 \\x5co", "\"say \\\"hi\\\" \\\\o\""},
                    EscapeCase{"\x1b[2J", "\\x1b[2J", "\"\\u001b[2J\""}, EscapeCase{"\x7f", "\\x7f", "\"\\u007f\""},
                    EscapeCase{std::string("\0x", 2), "\\x00x", "\"\\u0000x\""},
                    EscapeCase{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""},
                    EscapeCase{"\xc2\x9b", "\\xc2\\x9b", "\"\\u009b\""},  // C1 CSI
                    EscapeCase{"\xff\xfe", "\\xff\\xfe", "\"\\ufffd\\ufffd\""},
                    EscapeCase{"\xc0\xaf", "\\xc0\\xaf", "\"\\ufffd\\ufffd\""},                  // overlong
                    EscapeCase{"\xed\xa0\x80", "\\xed\\xa0\\x80", "\"\\ufffd\\ufffd\\ufffd\""},  // surrogate
                    EscapeCase{"\xe2\x82", "\\xe2\\x82", "\"\\ufffd\\ufffd\""}, EscapeCase{"", "", "\"\""}));

class AccessLogTest : public testing::Test {
 protected:
  std::unique_ptr<AccessLog> open(AccessLogOptions options) {
    if (options.path == "-") options.path = folder_.log();
    auto log = AccessLog::open(std::move(options));
    EXPECT_TRUE(log.ok());
    return std::move(*log);
  }
  void push(AccessLog& log, Rpc rpc, const std::string& path) {
    rpc.path = path;
    auto record = std::make_unique<LogRecord>();
    record->fill(rpc, kEpoch);
    log.push(record);
  }
  // The writer takes what is queued within a few hundredths of a second.
  static json tail(const AccessLog& log, const LogFilter& filter, size_t count, size_t expected) {
    json found;
    for (int i = 0; i < 200; ++i) {
      found = json::parse(log.tail(filter, count));
      if (found.size() >= expected) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return found;
  }

  TemporaryFolder folder_;
  Mesh mesh_;
};

TEST_F(AccessLogTest, WritesEveryLineBeforeItEnds) {
  auto log = open({});
  for (int i = 0; i < 500; ++i) push(*log, mesh_.rpc(), "/" + std::to_string(i));
  log.reset();
  const std::string lines = read_file(folder_.log());
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 500);
  EXPECT_THAT(lines, HasSubstr("\"POST /499 HTTP/2\""));
}

TEST_F(AccessLogTest, DropsAndCountsWhatDoesNotFit) {
  const std::string pipe = folder_.log();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);  // never read: a stuck log collector
  ASSERT_GE(reader, 0);
  auto log = open({.path = pipe, .queue = 16});
  for (int i = 0; i < 3000; ++i) {
    push(*log, mesh_.rpc(), std::string(900, 'x'));
    if (i % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  EXPECT_GT(log->dropped(), 0u);
  const auto begun = std::chrono::steady_clock::now();
  log.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(4));
  ::close(reader);
}

TEST_F(AccessLogTest, WhatABurstTookIsFreed) {
  constexpr int kBurst = 500;
  auto log = open({.ring = 0});
  const int64_t before = live_allocations();
  for (int i = 0; i < kBurst; ++i) push(*log, mesh_.rpc(), "/burst");
  EXPECT_GE(live_allocations(), before + kBurst);
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const auto settled = [&] { return live_allocations() <= before + kBurst / 10; };
  while (!settled() && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(settled()) << live_allocations() << " blocks after " << before;
  EXPECT_EQ(log->written(), static_cast<uint64_t>(kBurst));
}

TEST_F(AccessLogTest, TailFiltersAndGoesOnAfterASequence) {
  auto log = open({});
  push(*log, mesh_.rpc(), "/good");
  push(*log, mesh_.failed_rpc(), "/bad");
  push(*log, mesh_.rpc(1), "/second");
  const json all = tail(*log, {}, 10, 3);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]["path"], "/good");
  EXPECT_EQ(all[0]["sequence"], 1);
  EXPECT_EQ(all[2]["path"], "/second");

  const auto paths = [&](const LogFilter& filter, size_t count = 10) {
    std::string text;
    for (const json& record : json::parse(log->tail(filter, count))) text += record["path"].get<std::string>();
    return text;
  };
  EXPECT_EQ(paths({}, 1), "/second");
  EXPECT_EQ(paths({.failures = true}), "/bad");
  EXPECT_EQ(paths({.after = 2}), "/second");
  EXPECT_EQ(paths({.pod = "greeter-2"}), "/second");
  EXPECT_EQ(paths({.pod = "greeter-2.shop"}), "/second");
  EXPECT_EQ(paths({.pod = "shop/greeter-2"}), "/second");
  EXPECT_EQ(paths({.pod = "greeter-2.default"}), "");
  EXPECT_EQ(paths({.pod = "default/greeter-client-7d4b9c8f6d-x2k4z"}), "/good/bad/second");
  EXPECT_EQ(paths({.pod = "greeter"}), "");
  EXPECT_EQ(paths({.service = "greeter"}), "/good/bad/second");
  EXPECT_EQ(paths({.service = "greeter.shop.svc.cluster.local"}), "/good/bad/second");
  EXPECT_EQ(paths({.service = "other"}), "");
}

TEST_F(AccessLogTest, FailuresOutliveTheSuccessesThatFollow) {
  auto log = open({.ring = 8});
  push(*log, mesh_.failed_rpc(), "/bad");
  for (int i = 0; i < 20; ++i) push(*log, mesh_.rpc(), "/good");
  const json all = tail(*log, {}, 100, 9);
  ASSERT_EQ(all.size(), 9u);
  EXPECT_EQ(all[0]["path"], "/bad");
  EXPECT_EQ(all[1]["sequence"], 14);
}

TEST_F(AccessLogTest, AFileThatCannotBeOpenedIsAnError) {
  const auto log = AccessLog::open({.path = folder_.log() + "/no/such"});
  ASSERT_FALSE(log.ok());
  EXPECT_THAT(log.error().message, HasSubstr("open access log"));
}

TEST(LogMode, IsParsed) {
  EXPECT_EQ(parse_log_mode("all"), LogMode::all);
  EXPECT_EQ(parse_log_mode("failed"), LogMode::failed);
  EXPECT_EQ(parse_log_mode("off"), LogMode::off);
  EXPECT_EQ(parse_log_mode("ALL"), std::nullopt);
  EXPECT_EQ(parse_line_format("json"), LineFormat::json);
  EXPECT_EQ(parse_line_format(""), std::nullopt);
}

}  // namespace
}  // namespace weir::telemetry
