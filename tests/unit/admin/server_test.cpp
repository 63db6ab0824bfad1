#include "admin/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/stat.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "admin/bpf_metrics.h"
#include "fixture.h"

namespace weir::admin {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class ServerTest : public testing::Test {
 protected:
  ServerTest() {
    telemetry::AccessLogOptions options;
    options.path = "/dev/null";
    log_ = telemetry::AccessLog::open(options).value();
    sources_.stuck = [this] { return stuck_; };
    sources_.ready = [this] { return ready_ ? Readiness{true} : Readiness{false, "pods are still being enrolled"}; };
    sources_.stats = [] {
      AgentStats stats;
      stats.version = "0.1.0";
      return stats;
    };
    sources_.snapshot = [this] { return snapshot_; };
    sources_.pods = [] { return std::vector<interception::PodStatus>{}; };
    sources_.bpf_counters = []() -> base::Result<BpfCounters> { return base::Error{"no maps"}; };
    sources_.set_log_level = [this](const std::string& level) -> base::Result<void> {
      if (level != "debug") return base::Error{"unknown log level '" + level + "'"};
      level_ = level;
      return {};
    };
    sources_.drain = [this] { drained_ = true; };
    sources_.unmanaged = [this](const interception::UnmanagedSelection& selection) {
      selection_ = selection;
      return unmanaged_;
    };
    sources_.adopt = [this](const interception::AdoptRequest& request) {
      adopted_.push_back(request);
      return adopt_result_;
    };
    sources_.metrics = &metrics_;
    sources_.access_log = log_.get();
  }

  void start(const std::string& metrics_address = {}) {
    auto server = Server::start({folder_.path(), metrics_address}, sources_);
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = std::move(*server);
  }
  std::string socket() const { return folder_.path() + "/admin.sock"; }
  httplib::Client client() const {
    httplib::Client client(socket());
    client.set_address_family(AF_UNIX);
    client.set_read_timeout(5);
    return client;
  }

  TemporaryFolder folder_;
  std::unique_ptr<telemetry::AccessLog> log_;
  telemetry::Metrics metrics_;
  std::shared_ptr<const config::Snapshot> snapshot_ = small_snapshot();
  std::atomic<bool> ready_{true}, drained_{false};
  std::optional<std::string> stuck_;
  std::string level_;
  interception::UnmanagedSelection selection_;
  interception::UnmanagedList unmanaged_;
  std::vector<interception::AdoptRequest> adopted_;
  base::Result<interception::AdoptResult> adopt_result_ = interception::AdoptResult::closed;
  Sources sources_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, OnlyTheOwnerMayOpenTheSocket) {
  start();
  struct stat info {};
  ASSERT_EQ(::stat(socket().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  server_.reset();
  EXPECT_NE(::stat(socket().c_str(), &info), 0);
}

TEST_F(ServerTest, ReplacesAStaleSocketAndLeavesASuccessorsAlone) {
  start();
  auto first = std::move(server_);
  start();  // as during an upgrade, or after a crash left the file
  first.reset();
  auto answer = client().Get("/healthz");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200);
}

TEST_F(ServerTest, IsNotWellWhenAThreadStandsStill) {
  start();
  EXPECT_EQ(client().Get("/healthz")->status, 200);
  stuck_ = "worker-1 has stood still for 12 s";
  auto answer = client().Get("/healthz");
  EXPECT_EQ(answer->status, 503);
  EXPECT_EQ(answer->body, "worker-1 has stood still for 12 s\n");
}

TEST_F(ServerTest, SaysWhyItIsNotReady) {
  start();
  EXPECT_EQ(client().Get("/readyz")->status, 200);
  ready_ = false;
  auto answer = client().Get("/readyz");
  EXPECT_EQ(answer->status, 503);
  EXPECT_EQ(answer->body, "pods are still being enrolled\n");
}

TEST_F(ServerTest, DumpsTheConfiguration) {
  start();
  auto dump = client().Get("/config_dump");
  EXPECT_EQ(dump->get_header_value("Content-Type"), "application/json");
  EXPECT_EQ(json::parse(dump->body)["services"].size(), 2u);
  EXPECT_EQ(json::parse(client().Get("/config_dump?service=default/greeter")->body)["services"].size(), 1u);
  EXPECT_EQ(json::parse(client().Get("/services")->body).size(), 1u);
  snapshot_.reset();
  EXPECT_EQ(client().Get("/config_dump")->status, 503);
}

TEST_F(ServerTest, NamesThatAreNotUtf8DoNotBreakTheDump) {
  auto broken = std::make_shared<config::Snapshot>(*snapshot_);
  broken->findings = std::make_shared<const std::vector<config::Finding>>(
      1, config::Finding{"WEIR0101", config::Severity::error, "\xff.yaml", 1, "\xc3", "bad", ""});
  snapshot_ = broken;
  start();
  auto dump = client().Get("/config_dump");
  EXPECT_EQ(dump->status, 200);
  EXPECT_TRUE(json::accept(dump->body));
}

TEST_F(ServerTest, ShowsStatsAndLogs) {
  start();
  const json stats = json::parse(client().Get("/stats")->body);
  EXPECT_EQ(stats["version"], "0.1.0");
  EXPECT_EQ(stats["access_log"]["mode"], "failed");
  EXPECT_EQ(stats["bpf"]["error"], "no maps");

  telemetry::Rpc rpc;
  rpc.path = "/a.B/C";
  telemetry::Recorder(*log_).record(rpc);
  json records;
  for (int i = 0; i < 200 && records.empty(); ++i) {
    records = json::parse(client().Get("/logs?tail=5")->body)["records"];
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0]["path"], "/a.B/C");
  EXPECT_TRUE(json::parse(client().Get("/logs?after=1")->body)["records"].empty());
  EXPECT_TRUE(json::parse(client().Get("/logs?pod=nobody")->body)["records"].empty());
  for (const char* bad : {"/logs?tail=x", "/logs?tail=-1", "/logs?tail=99999999", "/logs?after=1x", "/logs?tail="}) {
    EXPECT_EQ(client().Get(bad)->status, 400) << bad;
  }
}

TEST_F(ServerTest, ChangesLogLevels) {
  start();
  EXPECT_EQ(client().Post("/logging?level=debug")->status, 200);
  EXPECT_EQ(level_, "debug");
  auto wrong = client().Post("/logging?level=loud");
  EXPECT_EQ(wrong->status, 400);
  EXPECT_EQ(json::parse(wrong->body)["error"], "unknown log level 'loud'");
  EXPECT_EQ(client().Post("/logging?access_log=all")->status, 200);
  EXPECT_EQ(log_->mode(), telemetry::LogMode::all);
  EXPECT_EQ(client().Post("/logging?access_log=some")->status, 400);
  EXPECT_EQ(client().Post("/logging")->status, 400);
}

TEST_F(ServerTest, Drains) {
  start();
  EXPECT_EQ(client().Get("/drain")->status, 404);  // a GET changes nothing
  EXPECT_FALSE(drained_);
  EXPECT_EQ(client().Post("/drain")->status, 202);
  EXPECT_TRUE(drained_);
}

TEST_F(ServerTest, ListsUnmanagedConnections) {
  unmanaged_.truncated = true;
  unmanaged_.problems = {"default/other: no"};
  for (const auto& [half_closed, idle] : {std::pair(false, 5), std::pair(false, 60), std::pair(true, 1)}) {
    interception::TcpSocket socket;
    socket.id = {address("10.0.1.5", 40000), address("10.96.0.10", 50051), 4711};
    socket.half_closed = half_closed;
    socket.idle = std::chrono::seconds(idle);
    socket.unread = 1;
    socket.unacknowledged = 2;
    const auto& service = snapshot_->services[0];
    unmanaged_.connections.push_back({snapshot_->pods[0], {service, &service->ports[0]}, socket});
  }
  start();
  const json list = json::parse(client().Get("/unmanaged?namespace=a&pod=a/b&service=c/d")->body);
  EXPECT_EQ(selection_.namespace_name, "a");
  EXPECT_EQ(selection_.pod, "a/b");
  EXPECT_EQ(selection_.service, "c/d");
  EXPECT_EQ(list["truncated"], true);
  EXPECT_EQ(list["problems"], json({"default/other: no"}));
  ASSERT_EQ(list["connections"].size(), 3u);
  EXPECT_EQ(list["connections"][0],
            json::parse(R"({"namespace": "default", "pod": "client", "uid": "uid-1", "service": "default/greeter",
              "port": 50051, "mode": "l7", "source": "10.0.1.5:40000", "destination": "10.96.0.10:50051",
              "cookie": 4711, "half_closed": true, "idle_seconds": 1.0, "bytes_sent": 0, "bytes_received": 0,
              "unread_bytes": 1, "unacknowledged_bytes": 2})"));
  EXPECT_EQ(list["connections"][1]["idle_seconds"], 60.0);
}

TEST_F(ServerTest, AdoptsOneConnection) {
  start();
  const std::string which = "/adopt?uid=uid-1&source=10.0.1.5:40000&destination=[fd00::1]:50051&cookie=4711";
  EXPECT_EQ(client().Get(which + "&active=1")->status, 404);  // a GET changes nothing
  auto answer = client().Post(which + "&min_idle_ms=1500");
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(json::parse(answer->body)["result"], "closed");
  EXPECT_EQ(client().Post(which + "&active=1")->status, 200);
  ASSERT_EQ(adopted_.size(), 2u);
  EXPECT_EQ(adopted_[0].pod_uid, "uid-1");
  EXPECT_EQ(adopted_[0].id, (interception::TcpSocketId{address("10.0.1.5", 40000), address("fd00::1", 50051), 4711}));
  EXPECT_EQ(adopted_[0].min_idle, std::chrono::milliseconds(1500));
  EXPECT_FALSE(adopted_[0].active);
  EXPECT_TRUE(adopted_[1].active);

  adopt_result_ = base::Error{"this kernel can't", EOPNOTSUPP};
  answer = client().Post(which + "&active=1");
  EXPECT_EQ(answer->status, 501);
  EXPECT_EQ(json::parse(answer->body)["error"], "this kernel can't");
  adopt_result_ = base::Error{"there is no such pod"};
  EXPECT_EQ(client().Post(which + "&active=1")->status, 502);
}

TEST_F(ServerTest, RefusesToAdoptWhatIsNotNamed) {
  start();
  const std::string uid = "uid=1", source = "&source=10.0.1.5:4", destination = "&destination=10.0.1.6:5";
  for (const std::string& query : {
           uid + source + destination + "&cookie=1",  // whether it may be in use
           uid + source + destination + "&cookie=1&active=0",
           uid + source + destination + "&cookie=1&active=1&min_idle_ms=1",
           uid + source + destination + "&cookie=1&min_idle_ms=x",
           uid + source + destination + "&cookie=1&min_idle_ms=99999999999",
           uid + source + destination + "&active=1",
           uid + source + destination + "&cookie=0&active=1",
           uid + source + destination + "&cookie=18446744073709551615&active=1",  // any socket, to the kernel
           source + destination + "&cookie=1&active=1",
           uid + destination + "&cookie=1&active=1",
           uid + source + "&destination=10.0.1.6&cookie=1&active=1",
           uid + source + "&destination=10.0.1.6:99999&cookie=1&active=1",
           uid + source + "&destination=fd00::1:5&cookie=1&active=1",
           uid + source + "&destination=[10.0.1.6]:5&cookie=1&active=1",
           uid + source + "&destination=[]:5&cookie=1&active=1",
       }) {
    EXPECT_EQ(client().Post("/adopt?" + query)->status, 400) << query;
  }
  EXPECT_TRUE(adopted_.empty());
}

TEST_F(ServerTest, RefusesWhatIsTooLargeOrUnknown) {
  start();
  EXPECT_EQ(client().Post("/logging?level=debug", std::string(1 << 20, 'x'), "text/plain")->status, 413);
  auto unknown = client().Get("/nothing");
  EXPECT_EQ(unknown->status, 404);
  EXPECT_EQ(json::parse(unknown->body)["error"], "GET /nothing: there is no such thing");
}

TEST_F(ServerTest, TcpHasMetricsAndProbesOnly) {
  add_bpf_metrics(metrics_, []() -> base::Result<BpfCounters> {
    BpfCounters counters{};
    counters[WEIR_STAT_BYPASS_BRAKE] = 3;
    counters[WEIR_STAT_DIVERTED] = 9;
    return counters;
  });
  int port = 0;
  for (int candidate = 20000 + ::getpid() % 20000; port == 0 && candidate < 60000; ++candidate) {
    if (auto server = Server::start({folder_.path(), "127.0.0.1:" + std::to_string(candidate)}, sources_); server) {
      port = candidate;
      server_ = std::move(*server);
    }
  }
  ASSERT_NE(port, 0);
  httplib::Client tcp("127.0.0.1", port);
  EXPECT_EQ(tcp.Get("/healthz")->status, 200);
  EXPECT_EQ(tcp.Get("/readyz")->status, 200);
  auto metrics = tcp.Get("/metrics");
  EXPECT_THAT(metrics->body, HasSubstr("weir_bypass_total{reason=\"brake\"} 3\n"));
  EXPECT_THAT(metrics->body, HasSubstr("weir_bpf_diverted_total 9\n"));
  for (const char* path : {"/config_dump", "/stats", "/pods", "/logs", "/services", "/unmanaged"}) {
    EXPECT_EQ(tcp.Get(path)->status, 404) << path;
  }
  EXPECT_EQ(tcp.Post("/drain")->status, 405);
  EXPECT_EQ(tcp.Post("/adopt")->status, 405);
  EXPECT_FALSE(drained_);

  // The port is taken now: an error, not a second listener on it.
  auto second = Server::start({folder_.path(), "127.0.0.1:" + std::to_string(port)}, sources_);
  EXPECT_FALSE(second.ok());
}

TEST_F(ServerTest, BadOptionsAreErrors) {
  const auto start_with = [&](const std::string& run_dir, const std::string& metrics_address) {
    auto server = Server::start({run_dir, metrics_address}, sources_);
    return server.ok() ? std::string() : server.error().message;
  };
  EXPECT_THAT(start_with(folder_.path() + "/no/such", ""), HasSubstr("run directory"));
  EXPECT_THAT(start_with(folder_.path(), "nonsense"), HasSubstr("is not IP:port"));
  EXPECT_THAT(start_with(folder_.path(), "127.0.0.1:70000"), HasSubstr("is not IP:port"));
  EXPECT_EQ(start_with(folder_.path(), "127.0.0.1:0"), "");
}

}  // namespace
}  // namespace weir::admin
