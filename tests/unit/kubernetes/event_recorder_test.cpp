#include "kubernetes/event_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "kubernetes/findings.h"

namespace weir::kubernetes {
namespace {

using base::Duration;
using base::Instant;
using config::Finding;
using nlohmann::json;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;

Finding rejected(const std::string& name, const std::string& message = "spec.http is wrong") {
  return finding(Code::bad_value, {}, "VirtualService default/" + name, message);
}

// ---- what becomes an Event, and what it looks like

struct ReasonCase {
  Code code;
  const char* object;
  const char* file;
  const char* reason;
};

TEST(EventObject, SomeFindingsBecomeEvents) {
  constexpr ReasonCase kCases[] = {
      {Code::wrong_type, "VirtualService default/x", "", "Rejected"},
      {Code::missing_field, "DestinationRule a/x", "", "Rejected"},
      {Code::bad_value, "ConfigMap istio-system/istio", "", "Rejected"},
      {Code::bad_address, "EndpointSlice a/x", "", "Rejected"},
      {Code::wrong_api_version, "Service a/x", "", "Rejected"},
      {Code::bad_header_operation, "VirtualService a/x", "", "Rejected"},
      {Code::malformed, "ConfigMap istio-system/istio", "", "Rejected"},
      {Code::not_enforced, "AuthorizationPolicy a/x", "", "NotEnforced"},
      {Code::not_enforced, "RequestAuthentication a/x", "", "NotEnforced"},
      {Code::not_enforced, "PeerAuthentication a/x", "", "NotEnforced"},
      {Code::host_claimed_twice, "VirtualService a/x", "", "Conflict"},
      {Code::subset_defined_twice, "DestinationRule a/x", "", "Conflict"},
      {Code::address_used_twice, "Service a/x", "", "Conflict"},
      // What one agent alone knows.
      {Code::bad_address, "Pod a/x", "", ""},
      {Code::address_used_twice, "Pod a/x", "", ""},
      {Code::bad_value, "Node x", "", ""},
      {Code::bad_value, "VirtualService a/x", "rules.yaml", ""},
      {Code::malformed, "", "", ""},
      {Code::not_enforced, "AuthorizationPolicy a/x", "policies.yaml", ""},
      // In use all the same, or others'.
      {Code::not_applied_yet, "Gateway a/x", "", ""},
      {Code::unknown_host, "VirtualService a/x", "", ""},
      {Code::route_not_applied, "VirtualService a/x", "", ""},
      {Code::undeclared_protocol, "Service a/x", "", ""},
  };
  for (const ReasonCase& test : kCases) {
    const Finding about = finding(test.code, {test.file, 0}, test.object, "text");
    EXPECT_EQ(event_reason(about), test.reason) << about.code << " " << test.object;
  }
  for (const CodeMeaning& code : kCodes) {
    if (code.severity == config::Severity::info) {
      EXPECT_EQ(event_reason(finding(code.code, {}, "Service a/x", "")), "") << code.id;
    }
  }
}

TEST(EventObject, IsAsKubectlExpectsIt) {
  const ObjectReference about{{Kind::virtual_service, "shop", "cart"}, "networking.istio.io/v1", "uid-1", "77"};
  const WallTime time{seconds(1'800'000'000) + milliseconds(999)};
  const json event =
      json::parse(event_json("cart.1", about, "Rejected", "WEIR0103: wrong", 2, {"weir-abcde", "node-1"}, time));
  const json expected = json::parse(R"({
    "apiVersion": "v1", "kind": "Event", "metadata": {"name": "cart.1", "namespace": "shop"},
    "involvedObject": {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "namespace": "shop",
                       "name": "cart", "uid": "uid-1", "resourceVersion": "77"},
    "type": "Warning", "reason": "Rejected", "message": "WEIR0103: wrong", "count": 2,
    "firstTimestamp": "2027-01-15T08:00:00Z", "lastTimestamp": "2027-01-15T08:00:00Z",
    "source": {"component": "weir", "host": "node-1"},
    "reportingComponent": "weir", "reportingInstance": "weir-abcde"})");
  EXPECT_EQ(event, expected);
}

TEST(EventObject, MessagesAreThoseOfWeirctlAndBounded) {
  EXPECT_EQ(
      event_message(finding(Code::host_claimed_twice, {}, "VirtualService a/x", "the host is taken", "merge them")),
      "WEIR0506: the host is taken (merge them)");
  std::string umlauts;
  for (int i = 0; i < 1000; ++i) umlauts += "\xc3\xa4";
  for (const char* before : {"", "x"}) {
    const std::string cut = event_message(rejected("x", before + umlauts));
    EXPECT_LE(cut.size(), 1024u);
    EXPECT_GE(cut.size(), 1022u);
    EXPECT_NO_THROW(json(cut).dump()) << "UTF-8";
    EXPECT_TRUE(cut.ends_with("..."));
  }
}

TEST(EventObject, NamesTellObjectsAndMessagesApart) {
  const auto named = [](const std::string& object, const std::string& uid) {
    return ObjectReference{{Kind::virtual_service, "a", object}, "v1", uid, ""};
  };
  const std::string name = event_name(named("x", "1"), "m");
  EXPECT_EQ(name, event_name(named("x", "1"), "m"));
  EXPECT_NE(name, event_name(named("x", "2"), "m"));
  EXPECT_NE(name, event_name(named("x", "1"), "n"));
  EXPECT_THAT(name, testing::MatchesRegex("x\\.[0-9a-f]+"));
  const std::string longest = std::string(199, 'a') + "-" + std::string(53, 'b');
  EXPECT_THAT(event_name(named(longest, "1"), "m"), testing::MatchesRegex("a+\\.[0-9a-f]+"));
}

// ---- the recorder, and a server of Events and VirtualServices

class EventServer {
 public:
  struct Answer {
    int status;
    std::string body;
    std::optional<Duration> retry_after = {};
  };

  Answer answer(const ApiRequest& request) {
    const std::string method = request.method;
    log.push_back(method + (request.target.find("/events") == std::string::npos ? " object" : " event"));
    if (!faults.empty()) {
      const Answer fault = faults.front();
      faults.erase(faults.begin());
      if (fault.status != 200) return fault;
    }
    if (method == "GET") {
      EXPECT_EQ(request.form, ApiForm::metadata);
      const auto found = objects.find(request.target.substr(request.target.rfind('/') + 1));
      return found == objects.end() ? Answer{404, "{}"} : Answer{200, found->second.dump()};
    }
    if (method == "POST") {
      EXPECT_EQ(request.target, "/api/v1/namespaces/default/events");
      const json event = json::parse(request.body);
      const std::string name = event["metadata"]["name"];
      if (events.contains(name)) return {409, R"({"reason":"AlreadyExists"})"};
      return {201, (events[name] = event).dump()};
    }
    EXPECT_EQ(method, "PATCH");
    EXPECT_STREQ(request.content_type, "application/merge-patch+json");
    const auto found = events.find(request.target.substr(request.target.rfind('/') + 1));
    if (found == events.end()) return {404, "{}"};
    found->second.merge_patch(json::parse(request.body));
    return {200, found->second.dump()};
  }
  void has(const std::string& name, const std::string& uid, const std::string& version) {
    objects[name] = {{"metadata", {{"name", name}, {"uid", uid}, {"resourceVersion", version}}}};
  }
  // "name xCOUNT" of all.
  std::vector<std::string> told() const {
    std::vector<std::string> result;
    for (const auto& [name, event] : events)
      result.push_back(event["involvedObject"]["name"].get<std::string>() + " x" + event["count"].dump());
    return result;
  }

  std::map<std::string, json> objects, events;
  std::vector<Answer> faults;
  std::vector<std::string> log;
};

class EventRecorderTest : public testing::Test {
 protected:
  EventRecorderTest() {
    for (const char* name : {"a", "b", "c"}) server.has(name, std::string("uid-") + name, "1");
    restart();
  }
  void restart() {
    recorder.emplace(
        EventReporter{"weir-abcde", "node-1"},
        [](Kind kind) {
          static const Resource::Version kPlace{"networking.istio.io/v1",
                                                "/apis/networking.istio.io/v1/virtualservices"};
          return kind == Kind::virtual_service ? &kPlace : nullptr;
        },
        EventLimits{}, 7);
  }
  void wrong(const std::vector<Finding>& findings) { recorder->set_findings(findings, now); }
  // Answers at once whatever is asked until then.
  void run(Duration duration) {
    const Instant until = now + duration;
    for (int i = 0; i < 100'000; ++i) {
      recorder->choose(now);
      if (recorder->due()) {
        recorder->tell_time(WallTime(now.time_since_epoch()));
        const auto answer = server.answer(recorder->begin(now));
        if (answer.status != 0) recorder->on_head(answer.status, answer.retry_after);
        recorder->on_bytes(answer.body);
        recorder->on_end(now, answer.status == 0 ? "timeout" : "");
        continue;
      }
      const auto next = recorder->choose_at();
      if (!next || *next > until) {
        now = until;
        return;
      }
      ASSERT_GT(*next, now) << "it asks to be asked for ever";
      now = *next;
    }
    FAIL() << "it never rests";
  }
  uint64_t counted(EventResult result) const { return recorder->counts()[static_cast<size_t>(result)]; }

  EventServer server;
  std::optional<EventRecorder> recorder;
  Instant now{seconds(1000)};
};

TEST_F(EventRecorderTest, AFindingBecomesOneEvent) {
  wrong({rejected("a"), finding(Code::undeclared_protocol, {}, "Service default/s", "x")});
  run(seconds(1) - milliseconds(1));
  EXPECT_THAT(server.log, ElementsAre()) << "it might have been over at once";
  for (int i = 0; i < 5; ++i) {
    wrong({rejected("a")});
    run(seconds(10));
  }
  EXPECT_THAT(server.log, ElementsAre("GET object", "POST event"));
  EXPECT_THAT(server.told(), ElementsAre("a x1"));
  const json& event = server.events.begin()->second;
  EXPECT_EQ(event["involvedObject"]["uid"], "uid-a");
  EXPECT_EQ(event["involvedObject"]["apiVersion"], "networking.istio.io/v1");
  EXPECT_EQ(event["message"], "WEIR0103: spec.http is wrong");
  EXPECT_EQ(counted(EventResult::created), 1u);
}

TEST_F(EventRecorderTest, WhatIsOverAtOnceIsNotTold) {
  wrong({rejected("a")});
  run(milliseconds(900));
  wrong({});
  run(minutes(1));
  EXPECT_THAT(server.log, ElementsAre());
}

TEST_F(EventRecorderTest, WhatComesBackCounts) {
  for (int i = 0; i < 3; ++i) {
    wrong({rejected("a")});
    run(seconds(2));
    wrong({});
    run(seconds(2));
  }
  EXPECT_THAT(server.told(), ElementsAre("a x3"));
  const json& event = server.events.begin()->second;
  EXPECT_NE(event["firstTimestamp"], event["lastTimestamp"]);
  EXPECT_EQ(counted(EventResult::created), 1u);
  EXPECT_EQ(counted(EventResult::repeated), 2u);
}

TEST_F(EventRecorderTest, ANewerVersionThatIsWrongTooCounts) {
  const ObjectKey key{Kind::virtual_service, "default", "a"};
  wrong({rejected("a")});
  recorder->on_rejected(key, "1", now);
  run(seconds(2));
  recorder->on_rejected(key, "1", now);  // a list says it again
  run(seconds(2));
  EXPECT_THAT(server.told(), ElementsAre("a x1"));
  server.has("a", "uid-a", "5");
  recorder->on_rejected(key, "5", now);
  run(seconds(2));
  EXPECT_THAT(server.told(), ElementsAre("a x2"));
  EXPECT_EQ(server.events.begin()->second["involvedObject"]["resourceVersion"], "5");
}

TEST_F(EventRecorderTest, WhatStaysIsSaidAgainBeforeTheServerForgetsIt) {
  wrong({rejected("a")});
  run(minutes(65));
  EXPECT_THAT(server.told(), ElementsAre("a x3"));
}

TEST_F(EventRecorderTest, AnEventThatTheServerHasForgottenIsMadeAnew) {
  wrong({rejected("a")});
  run(seconds(2));
  server.events.clear();
  run(minutes(31));
  EXPECT_THAT(server.told(), ElementsAre("a x1"));
  EXPECT_EQ(counted(EventResult::created), 2u);
}

TEST_F(EventRecorderTest, AnotherObjectOfTheNameHasItsOwn) {
  wrong({rejected("a")});
  run(seconds(2));
  wrong({});
  server.has("a", "uid-other", "9");
  wrong({rejected("a")});
  run(seconds(2));
  EXPECT_THAT(server.told(), ElementsAre("a x1", "a x1"));
}

TEST_F(EventRecorderTest, ASecondWriterGoesOnWithTheFirstOnes) {
  wrong({rejected("a")});
  run(minutes(40));
  ASSERT_THAT(server.told(), ElementsAre("a x2"));
  recorder->stop();
  server.log.clear();
  wrong({rejected("a"), rejected("b")});
  run(seconds(2));
  EXPECT_THAT(server.told(), ElementsAre("a x2", "b x1"));
  EXPECT_THAT(server.log, ElementsAre("GET object", "POST event", "PATCH event", "GET object", "POST event"));
  EXPECT_EQ(counted(EventResult::adopted), 1u);
  wrong({rejected("b")});
  wrong({rejected("a"), rejected("b")});
  run(seconds(2));
  EXPECT_THAT(server.told(), ElementsAre("a x3", "b x1"));
}

TEST_F(EventRecorderTest, ObjectsThatAreGoneAreForgotten) {
  server.objects.erase("a");
  wrong({rejected("a"), rejected("b")});
  run(minutes(5));
  EXPECT_THAT(server.told(), ElementsAre("b x1"));
  EXPECT_EQ(counted(EventResult::gone), 1u);
  EXPECT_EQ(recorder->problem(), "");
}

TEST_F(EventRecorderTest, KindsThatAreNotFollowedAreLeftOut) {
  wrong({finding(Code::bad_value, {}, "DestinationRule default/d", "x")});
  run(minutes(5));
  EXPECT_THAT(server.log, ElementsAre());
}

TEST_F(EventRecorderTest, WhatIsRightAgainWhileItIsLookedAtIsNotTold) {
  wrong({rejected("a")});
  now += seconds(1);
  recorder->choose(now);
  const auto answer = server.answer(recorder->begin(now));
  wrong({});
  recorder->on_head(answer.status, {});
  recorder->on_bytes(answer.body);
  recorder->on_end(now, "");
  run(minutes(1));
  EXPECT_THAT(server.told(), ElementsAre());
}

// ---- limits

TEST_F(EventRecorderTest, AnObjectHasABurstAndThenOneEachFiveMinutes) {
  for (int i = 0; i < 40; ++i) {
    wrong({rejected("a"), rejected("b")});
    run(seconds(2));
    wrong({rejected("b")});
    run(seconds(1));
  }
  EXPECT_THAT(server.told(), ElementsAre("a x25", "b x1"));
  EXPECT_GT(counted(EventResult::limited), 0u);
  wrong({rejected("a"), rejected("b")});
  run(minutes(6));
  EXPECT_THAT(server.told(), ElementsAre("a x26", "b x1")) << "what is wrong still is told late, not never";
}

TEST_F(EventRecorderTest, AllTogetherHaveABurstAndThenOneASecond) {
  std::vector<Finding> findings;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "many-" + std::to_string(i);
    server.has(name, name, "1");
    findings.push_back(rejected(name));
  }
  wrong(findings);
  run(seconds(1));
  EXPECT_EQ(server.events.size(), 20u);
  run(seconds(10));
  EXPECT_EQ(server.events.size(), 30u);
  run(seconds(70));
  EXPECT_EQ(server.events.size(), 100u);
}

TEST_F(EventRecorderTest, KnowsAThousandAtMost) {
  std::vector<Finding> findings;
  for (int i = 0; i < 1500; ++i) {
    const std::string name = "many-" + std::to_string(i);
    server.has(name, name, "1");
    findings.push_back(rejected(name));
  }
  wrong(findings);
  wrong(findings);
  EXPECT_EQ(counted(EventResult::limited), 500u);
  run(minutes(20));
  EXPECT_EQ(server.events.size(), 1000u);
  findings.erase(findings.begin(), findings.begin() + 600);
  wrong(findings);
  wrong(findings);  // the first makes room
  run(minutes(10));
  EXPECT_EQ(server.events.size(), 1500u);
}

// ---- bad answers

struct BadAnswer {
  const char* name;
  EventServer::Answer answer;
  EventResult result;
  Duration least, most;  // until the Event is there
  const char* problem;
};

class BadEventAnswers : public EventRecorderTest, public testing::WithParamInterface<BadAnswer> {};

// To the first request (for the object), or to the second (for the Event).
TEST_P(BadEventAnswers, PutItOff) {
  const BadAnswer& bad = GetParam();
  for (const size_t which : {0, 1}) {
    restart();
    server.events.clear();
    server.log.clear();
    server.faults.assign(which, {200, ""});
    server.faults.push_back(bad.answer);
    wrong({rejected("a")});
    run(seconds(1));
    EXPECT_EQ(server.log.size(), which + 1);
    EXPECT_EQ(counted(bad.result), 1u);
    EXPECT_THAT(recorder->problem(), HasSubstr(bad.problem));
    run(bad.least - milliseconds(1));
    EXPECT_EQ(server.log.size(), which + 1) << "too early";
    run(bad.most - bad.least + milliseconds(1));
    EXPECT_THAT(server.told(), ElementsAre("a x1"));
    EXPECT_EQ(recorder->problem(), "");
  }
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadEventAnswers,
    testing::Values(
        BadAnswer{"forbidden",
                  {403, R"({"message":"events is forbidden"})"},
                  EventResult::forbidden,
                  minutes(10),
                  minutes(10),
                  "403 events is"},
        BadAnswer{"throttled", {429, "{}", seconds(30)}, EventResult::throttled, seconds(30), seconds(30), "429"},
        BadAnswer{"broken", {500, "no"}, EventResult::failed, milliseconds(500), milliseconds(1500), "500 no"},
        BadAnswer{"unauthorized", {401, "no"}, EventResult::failed, milliseconds(500), milliseconds(1500), "401 no"},
        BadAnswer{"silence", {0, ""}, EventResult::failed, milliseconds(500), milliseconds(1500), "timeout"},
        BadAnswer{"redirect", {302, ""}, EventResult::failed, milliseconds(500), milliseconds(1500), "302"}),
    [](const auto& bad) { return bad.param.name; });

TEST_F(EventRecorderTest, AnEventThatIsRefusedIsNotTriedAgainSoon) {
  server.faults = {{200, ""}, {422, R"({"message":"invalid"})"}};
  wrong({rejected("a"), rejected("b")});
  run(minutes(29));
  EXPECT_THAT(server.told(), ElementsAre("b x1"));
  EXPECT_EQ(counted(EventResult::refused), 1u);
  run(minutes(2));
  EXPECT_THAT(server.told(), ElementsAre("a x1", "b x2"));
}

TEST_F(EventRecorderTest, ALookThatIsRefusedIsNotTriedAgainSoonEither) {
  server.faults.assign(1000, {400, R"({"message":"invalid"})"});
  wrong({rejected("a")});
  run(minutes(29));
  EXPECT_EQ(server.log.size(), 1u);
  EXPECT_EQ(counted(EventResult::refused), 1u);
  EXPECT_EQ(counted(EventResult::limited), 0u);
  server.faults.clear();
  run(minutes(2));
  EXPECT_THAT(server.told(), ElementsAre("a x1"));
}

TEST_F(EventRecorderTest, OneThatIsForbiddenHoldsNobodyUpThreeDo) {
  const EventServer::Answer no{403, R"({"message":"exceeded quota"})"};
  server.faults = {no};
  wrong({rejected("a"), rejected("b")});
  run(seconds(2));
  EXPECT_THAT(server.told(), ElementsAre("b x1"));
  server.faults = {no, no, no};
  const size_t before = server.log.size();
  wrong({});
  wrong({rejected("a", "1"), rejected("a", "2"), rejected("b", "3"), rejected("c", "4")});
  run(minutes(9));
  EXPECT_EQ(server.log.size(), before + 3);
  run(minutes(2));
  EXPECT_EQ(server.events.size(), 5u);
}

TEST_F(EventRecorderTest, FailuresInARowAreMetWithMorePatience) {
  server.faults.assign(1000, {500, ""});
  wrong({rejected("a"), rejected("b"), rejected("c")});
  run(minutes(30));
  EXPECT_LT(server.log.size(), 75u);
  EXPECT_GT(server.log.size(), 20u);
}

TEST_F(EventRecorderTest, AServerThatContradictsItself) {
  // It has the Event when it is to be made, and has it not when it is to be changed.
  for (int i = 0; i < 200; ++i) {
    server.faults.push_back({200, ""});
    for (int j = 0; j < 2; ++j) {
      server.faults.push_back({409, "{}"});
      server.faults.push_back({404, "{}"});
    }
  }
  wrong({rejected("a")});
  run(seconds(1));
  EXPECT_EQ(server.log.size(), 6u);
  EXPECT_EQ(counted(EventResult::failed), 1u);
}

TEST_F(EventRecorderTest, GoodAnswersThatSayNothing) {
  for (const char* body : {"", "<html>", "[]", "{}", R"({"metadata":7})", R"({"metadata":{"uid":7}})"}) {
    restart();
    wrong({rejected("a")});
    now += seconds(1);
    recorder->choose(now);
    recorder->begin(now);
    recorder->on_head(200, {});
    recorder->on_bytes(body);
    recorder->on_end(now, "");
    EXPECT_EQ(counted(EventResult::failed), 1u) << body;
  }
}

TEST_F(EventRecorderTest, CountsOfAnySizeAreTakenOver) {
  for (const char* count : {"-1", "0", "7", "2147483647", "99999999999", "\"x\"", "null"}) {
    server.events.clear();
    restart();
    wrong({rejected("a")});
    run(seconds(2));
    server.events.begin()->second["count"] = json::parse(count);
    restart();
    wrong({rejected("a")});
    run(seconds(2));
    wrong({});
    wrong({rejected("a")});
    run(seconds(2));
    const int64_t now_counted = server.events.begin()->second["count"];
    EXPECT_GE(now_counted, 2) << count;
    EXPECT_LE(now_counted, INT32_MAX) << count;
  }
}

}  // namespace
}  // namespace weir::kubernetes
