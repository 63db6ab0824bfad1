// Which connections weirctl adopt closes, and what it shows of them.
#include "weirctl/adopt.h"

#include <gmock/gmock.h>

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
