// Which connections weirctl adopt closes, and what it shows of them.
#include "weirctl/adopt.h"

#include <gmock/gmock.h>
#include <httplib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "weir/admin_api.h"
#include "weirctl/commands.h"
#include "weirctl/unmanaged.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

json connection(double idle_seconds, const json& other = json::object()) {
  json out = {{"namespace", "default"},
              {"pod", "client"},
              {"uid", "uid-1"},
              {"service", "default/greeter"},
              {"port", 50051},
              {"mode", "l7"},
              {"source", "10.244.0.5:40000"},
              {"destination", "10.96.0.10:50051"},
              {"cookie", 4711},
              {"half_closed", false},
              {"idle_seconds", idle_seconds},
              {"bytes_sent", 100},
              {"bytes_received", 2000},
              {"unread_bytes", 0},
              {"unacknowledged_bytes", 0}};
  out.update(other);
  return out;
}

std::vector<std::string> results(const json& connections, const AdoptOptions& options) {
  std::vector<std::string> out;
  for (const json& planned : plan_adoption(connections, options)) out.push_back(planned["result"]);
  return out;
}

TEST(AdoptTest, IdleOnesUpToTheLimit) {
  const json list = {connection(60), connection(30), connection(4.9), connection(10), connection(5)};
  AdoptOptions options;
  EXPECT_THAT(results(list, options), ElementsAre("close", "close", "active", "close", "close"));
  options.limit = 2;
  EXPECT_THAT(results(list, options), ElementsAre("close", "close", "active", "limit", "limit"));
  options.min_idle_ms = 20'000;
  EXPECT_THAT(results(list, options), ElementsAre("close", "close", "active", "active", "active"));
}

TEST(AdoptTest, ThoseInUseOnlyIfAskedFor) {
  const json list = {connection(60, {{"unread_bytes", 1}}), connection(60, {{"unacknowledged_bytes", 1}}),
                     connection(0)};
  AdoptOptions options;
  options.min_idle_ms = 0;
  EXPECT_THAT(results(list, options), ElementsAre("active", "active", "close"));
  options.active = true;
  EXPECT_THAT(results(list, options), ElementsAre("close", "close", "close"));
}

TEST(AdoptTest, UndeclaredPortsOnlyByTheNameOfTheService) {
  const json list = {connection(60, {{"mode", "detect"}}), connection(60)};
  AdoptOptions options;
  EXPECT_THAT(results(list, options), ElementsAre("undeclared", "close"));
  options.active = true;
  EXPECT_THAT(results(list, options), ElementsAre("undeclared", "close"));
  options.scope.service = "greeter";
  EXPECT_THAT(results(list, options), ElementsAre("close", "close"));
}

TEST(AdoptTest, ShowsWhatWouldBeDoneAndWhatWas) {
  json plan = plan_adoption({connection(60), connection(1)}, {});
  EXPECT_THAT(
      render_adoption({{"dry_run", true}, {"connections", plan}}, false, false),
      testing::AllOf(HasSubstr("default/client"), HasSubstr("default/greeter:50051"), HasSubstr("10.244.0.5:40000"),
                     HasSubstr(" 1m "), HasSubstr("would be closed"), HasSubstr("left: active")));
  // Interrupted by a failure before the second one.
  plan = plan_adoption({connection(60), connection(30)}, {});
  plan[0]["result"] = "closed";
  EXPECT_THAT(render_adoption({{"dry_run", false}, {"connections", plan}}, false, false),
              testing::AllOf(HasSubstr("  closed"), HasSubstr("not reached"), Not(HasSubstr("would be"))));
}

// What a pod that ends, or one that can't be entered, makes of its connections is nothing to the others.
TEST(AdoptTest, OneThatCannotBeClosedDoesNotEndTheRun) {
  json plan = plan_adoption({connection(60), connection(50), connection(1), connection(40), connection(30)}, {});
  std::vector<double> asked;
  const auto done = carry_out(plan, 1000, [&](const json& row) -> base::Result<json> {
    asked.push_back(row["idle_seconds"]);
    if (asked.size() == 1) return base::Error{"enter a pod's network namespace: no"};
    return json{{"result", asked.size() == 2 ? "gone" : "closed"}};
  });
  EXPECT_TRUE(done.ok());
  EXPECT_THAT(asked, ElementsAre(60, 50, 40, 30));
  std::vector<std::string> became;
  for (const json& row : plan) became.push_back(row["result"]);
  EXPECT_THAT(became, ElementsAre("failed", "gone", "active", "closed", "closed"));
  EXPECT_EQ(plan[0]["error"], "enter a pod's network namespace: no");
  EXPECT_THAT(render_adoption({{"dry_run", false}, {"connections", plan}}, false, false),
              HasSubstr("failed: enter a pod's network namespace: no"));
}

TEST(AdoptTest, WithoutAnAgentOrAKernelThatCanItEnds) {
  for (const int code : {ECONNREFUSED, EOPNOTSUPP}) {
    json plan = plan_adoption({connection(60), connection(50), connection(40)}, {});
    int asked = 0;
    const auto done = carry_out(plan, 1000, [&](const json&) -> base::Result<json> {
      if (++asked == 2) return base::Error{"no", code};
      return json{{"result", "closed"}};
    });
    EXPECT_FALSE(done.ok());
    EXPECT_EQ(asked, 2);
    EXPECT_EQ(plan[1]["result"], "close");
    EXPECT_EQ(plan[2]["result"], "close");
  }
}

// The command, asking an agent that answers as the test says.
class AdoptCommand : public testing::Test {
 protected:
  void SetUp() override {
    run_dir_ = "/tmp/weir-adopt-" + std::to_string(::getpid());
    std::filesystem::create_directories(run_dir_);
    agent_.Get(admin_api::kUnmanaged, [](const httplib::Request&, httplib::Response& response) {
      const json list = {connection(60), connection(50), connection(40)};
      response.set_content(json{{"connections", list}}.dump(), "application/json");
    });
    agent_.Post(admin_api::kAdopt, [this](const httplib::Request&, httplib::Response& response) {
      response.status = statuses_.at(asked_++);
      const json answer = response.status == 200 ? json{{"result", "closed"}} : json{{"error", "the reason"}};
      response.set_content(answer.dump(), "application/json");
    });
    agent_.set_address_family(AF_UNIX);
    ASSERT_TRUE(agent_.bind_to_port(run_dir_ + "/" + admin_api::kSocketName, 80));
    thread_ = std::thread([this] { agent_.listen_after_bind(); });
    while (!agent_.is_running()) std::this_thread::yield();
  }
  void TearDown() override {
    agent_.stop();
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(run_dir_);
  }
  int run(std::vector<int> statuses) {
    statuses_ = std::move(statuses);
    asked_ = 0;
    CLI::App app;
    Session session;
    session.settings.run_dir = run_dir_;
    add_adopt(app, session);
    app.parse("adopt --node --yes --rate 1000");
    testing::internal::CaptureStdout();
    const int status = session.run();
    shown_ = testing::internal::GetCapturedStdout();
    return status;
  }

  std::string run_dir_, shown_;
  std::vector<int> statuses_;
  std::atomic<size_t> asked_ = 0;
  httplib::Server agent_;
  std::thread thread_;
};

TEST_F(AdoptCommand, ItsStatusSaysThatSomeFailed) {
  EXPECT_EQ(run({200, 200, 200}), kOk);
  EXPECT_EQ(run({200, 502, 200}), kFindings);
  EXPECT_EQ(asked_, 3u);
  EXPECT_THAT(shown_, testing::AllOf(HasSubstr("  closed"), HasSubstr("failed: the reason")));
  EXPECT_EQ(run({200, 501, 200}), kData) << "the kernel can't";
  EXPECT_EQ(asked_, 2u);
  EXPECT_THAT(shown_, HasSubstr("not reached"));
}

TEST(UnmanagedTest, AListAndNone) {
  const json list = {{"connections", {connection(60, {{"half_closed", true}})}},
                     {"truncated", true},
                     {"problems", {"default/other: cannot be entered"}}};
  EXPECT_THAT(render_unmanaged(list, false, false),
              testing::AllOf(HasSubstr("1m, half-closed"), Not(HasSubstr("RECEIVED")), HasSubstr("There are more"),
                             HasSubstr("default/other: cannot be entered")));
  EXPECT_THAT(render_unmanaged(list, true, false), testing::AllOf(HasSubstr("RECEIVED"), HasSubstr("2000")));
  EXPECT_THAT(render_unmanaged({{"connections", json::array()}}, false, false), HasSubstr("No connection"));
}

}  // namespace
}  // namespace weir::weirctl
