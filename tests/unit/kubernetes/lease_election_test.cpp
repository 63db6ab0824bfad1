#include "kubernetes/lease_election.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

namespace weir::kubernetes {
namespace {

using base::Duration;
using base::Instant;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr char kPath[] = "/apis/coordination.k8s.io/v1/namespaces/weir-system/leases";

LeaseSettings settings_of(const std::string& identity) {
  LeaseSettings settings;
  settings.namespace_name = "weir-system";
  settings.name = "weir-events";
  settings.identity = identity;
  return settings;
}

// One lease, as an API server keeps it.
class LeaseServer {
 public:
  struct Answer {
    int status;
    std::string body;
  };

  Answer answer(const ApiRequest& request) {
    ++requests;
    const std::string method = request.method;
    if (method == "POST") {
      if (lease.is_object()) return {409, R"({"message":"leases \"weir-events\" already exists"})"};
      EXPECT_EQ(request.target, kPath);
      return store(json::parse(request.body));
    }
    EXPECT_EQ(request.target, std::string(kPath) + "/weir-events");
    if (!lease.is_object()) return {404, R"({"message":"leases \"weir-events\" not found"})"};
    if (method == "GET") return {200, lease.dump()};
    json wanted = json::parse(request.body);
    EXPECT_EQ(method, "PUT");
    if (wanted["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"])
      return {409, R"({"message":"the object has been modified"})"};
    return store(std::move(wanted));
  }
  std::string holder() const { return lease["spec"]["holderIdentity"]; }
  int transitions() const { return lease["spec"]["leaseTransitions"]; }

  json lease;
  int requests = 0;

 private:
  Answer store(json wanted) {
    lease = std::move(wanted);
    lease["metadata"]["resourceVersion"] = std::to_string(++version_);
    return {200, lease.dump()};
  }
  int version_ = 100;
};

class LeaseElectionTest : public testing::Test {
 protected:
  int written = 0;  // by held_by()

  // Answers what is due until `until`, at once.
  void run(Instant until) {
    while (election.due() && *election.due() <= until) {
      now = std::max(now, *election.due());
      tell(server.answer(ask()));
    }
    now = until;
  }
  ApiRequest ask() {
    election.tell_time(WallTime(seconds(1'800'000'000) + milliseconds(250)));
    return election.begin(now);
  }
  void tell(const LeaseServer::Answer& answer, std::optional<Duration> retry_after = {}) {
    if (answer.status != 0) election.on_head(answer.status, retry_after);
    election.on_bytes(answer.body);
    election.on_end(now, answer.status == 0 ? "timeout" : "");
  }
  // The next request, when it is due. Returns how long that took.
  Duration wait() {
    const Instant before = now;
    now = std::max(now, election.due().value());
    return now - before;
  }
  void held_by(const std::string& holder, int renewal = 1) {
    server.lease = {
        {"apiVersion", "coordination.k8s.io/v1"},
        {"kind", "Lease"},
        {"metadata",
         {{"name", "weir-events"}, {"labels", {{"kept", "yes"}}}, {"resourceVersion", std::to_string(++written)}}},
        {"spec",
         {{"holderIdentity", holder},
          {"leaseDurationSeconds", 15},
          {"leaseTransitions", 3},
          {"renewTime", "2026-01-01T00:00:0" + std::to_string(renewal) + ".000000Z"}}}};
  }

  LeaseServer server;
  LeaseElection election{settings_of("one"), 7};
  Instant now{seconds(1000)};
};

TEST_F(LeaseElectionTest, WhoHasNothingToDoAsksNothing) {
  EXPECT_FALSE(election.due());
  EXPECT_TRUE(election.idle());
  election.want(true, now);
  ASSERT_TRUE(election.due());
  EXPECT_LE(*election.due(), now + seconds(2));
  election.want(false, now);
  EXPECT_FALSE(election.due());
}

TEST_F(LeaseElectionTest, MakesTheLeaseAndRenewsIt) {
  election.want(true, now);
  run(now + seconds(3));
  EXPECT_TRUE(election.holds(now));
  EXPECT_EQ(server.holder(), "one");
  EXPECT_EQ(server.transitions(), 0);
  EXPECT_EQ(server.lease["spec"]["leaseDurationSeconds"], 15);
  EXPECT_EQ(server.lease["spec"]["renewTime"], "2027-01-15T08:00:00.250000Z");
  const int before = server.requests;
  run(now + minutes(1));
  EXPECT_TRUE(election.holds(now));
  EXPECT_EQ(server.requests - before, 12) << "one each five seconds, and no look";
}

// It would be copied and written by recursion.
TEST_F(LeaseElectionTest, ALeaseThatIsNestedWithoutEndIsNotRead) {
  constexpr size_t kDepth = 30'000;  // a larger answer is not taken in the first place
  election.want(true, now);
  wait();
  ask();
  tell({200, R"({"metadata":{"resourceVersion":"1"},"spec":{"deep":)" + std::string(kDepth, '[') +
                 std::string(kDepth, ']') + "}}"});
  EXPECT_THAT(election.problem(), HasSubstr("cannot be read"));
  EXPECT_FALSE(election.holds(now));
  run(now + minutes(1));
  EXPECT_TRUE(election.holds(now));
}

TEST(LeaseIdentity, ThatIsNoUtf8IsWrittenAllTheSame) {
  LeaseElection election(settings_of("pod-\xff\xfe"), 7);
  Instant now{seconds(1000)};
  election.want(true, now);
  now = *election.due();
  election.begin(now);
  election.on_head(404, {});
  election.on_end(now, "");
  EXPECT_THAT(election.begin(now).body, HasSubstr("pod-\xef\xbf\xbd"));
}

TEST_F(LeaseElectionTest, TakesAnExpiredLeaseByWhatItSawItself) {
  held_by("other");
  election.want(true, now);
  const Instant began = now;
  while (!election.holds(now)) {
    ASSERT_LT(now - began, seconds(20));
    run(now + milliseconds(100));
  }
  // The times in it are months away. It was seen within two seconds.
  EXPECT_GE(now - began, seconds(15));
  EXPECT_LE(now - began, seconds(17) + milliseconds(100));
  EXPECT_EQ(server.holder(), "one");
  EXPECT_EQ(server.transitions(), 4);
  EXPECT_EQ(server.lease["metadata"]["labels"]["kept"], "yes");
}

TEST_F(LeaseElectionTest, LeavesALeaseThatIsRenewed) {
  held_by("other");
  election.want(true, now);
  for (int renewal = 2; renewal < 9; ++renewal) {
    run(now + seconds(14));
    held_by("other", renewal);
  }
  EXPECT_FALSE(election.holds(now));
  EXPECT_EQ(server.holder(), "other");
}

TEST_F(LeaseElectionTest, TakesWhatWasGivenBackAtOnce) {
  held_by("other");
  election.want(true, now);
  run(now + seconds(4));
  held_by("", 2);
  run(now + seconds(3));
  EXPECT_TRUE(election.holds(now));
  EXPECT_EQ(server.transitions(), 4);
}

TEST_F(LeaseElectionTest, LooksSeldomWhileAllIsWellAndOftenWhenThereIsSomethingNew) {
  held_by("other");
  election.want(true, now);
  const auto minutes_pass = [&](int count) {
    const int before = server.requests;
    for (int i = 0; i < 12 * count; ++i) {
      held_by("other", i % 9 + 1);
      run(now + seconds(5));
    }
    return server.requests - before;
  };
  minutes_pass(1);
  EXPECT_LE(minutes_pass(10), 100);
  election.hurry(now);
  const int before = server.requests;
  run(now + seconds(2));
  EXPECT_EQ(server.requests, before + 1);
  held_by("", 2);
  run(now + seconds(3));
  EXPECT_TRUE(election.holds(now));
}

TEST_F(LeaseElectionTest, WhoLooksSeldomSeesInTimeThatTheHolderIsGone) {
  for (int phase = 0; phase < 20; ++phase) {
    LeaseElection fresh(settings_of("one"), static_cast<uint64_t>(phase));
    const auto step = [&](Duration duration) {
      for (const Instant until = now + duration; now < until; now += milliseconds(100)) {
        while (fresh.due() && *fresh.due() <= now) {
          const auto answer = server.answer(fresh.begin(now));
          fresh.on_head(answer.status, {});
          fresh.on_bytes(answer.body);
          fresh.on_end(now, "");
        }
      }
    };
    held_by("other");
    fresh.want(true, now);
    for (int i = 1; i < 20; ++i) {
      held_by("other", i % 9 + 1);
      step(seconds(5));
    }
    held_by("other", 5);
    step(milliseconds(700 * phase));
    fresh.hurry(now);  // something is new, and the holder is dead
    step(seconds(18));
    EXPECT_TRUE(fresh.holds(now)) << "phase " << phase;
  }
}

TEST_F(LeaseElectionTest, GivesItBack) {
  election.want(true, now);
  run(now + seconds(3));
  election.want(false, now);
  EXPECT_FALSE(election.holds(now)) << "before the server knows";
  EXPECT_FALSE(election.idle());
  run(now);
  EXPECT_EQ(server.holder(), "");
  EXPECT_EQ(server.lease["spec"]["leaseDurationSeconds"], 1);
  EXPECT_TRUE(election.idle());
  run(now + minutes(1));
  EXPECT_EQ(server.holder(), "");
  election.want(true, now);
  run(now + seconds(3));
  EXPECT_TRUE(election.holds(now));
  EXPECT_EQ(server.lease["spec"]["leaseDurationSeconds"], 15);
}

TEST_F(LeaseElectionTest, GivesBackWhatIsBeingRenewed) {
  election.want(true, now);
  run(now + seconds(3));
  wait();
  const auto renewed = server.answer(ask());
  election.want(false, now);
  EXPECT_FALSE(election.idle());
  tell(renewed);
  EXPECT_FALSE(election.holds(now));
  run(now);
  EXPECT_EQ(server.holder(), "");
  EXPECT_TRUE(election.idle());
}

TEST_F(LeaseElectionTest, WantedAgainWhileItIsGivenBack) {
  election.want(true, now);
  run(now + seconds(3));
  election.want(false, now);
  wait();
  const auto given = server.answer(ask());
  election.want(true, now);
  EXPECT_FALSE(election.holds(now)) << "another may have it by now";
  tell(given);
  run(now + seconds(3));
  EXPECT_TRUE(election.holds(now));
}

TEST_F(LeaseElectionTest, TheHolderGivesUpBeforeOthersTakeIt) {
  election.want(true, now);
  run(now + seconds(3));
  const Instant until = election.held_until();
  EXPECT_LE(until, now + seconds(10));
  int attempts = 0;
  while (now < until) {
    wait();
    if (now >= until) break;
    ask();
    tell({0, ""});
    ++attempts;
  }
  EXPECT_GE(attempts, 2);
  EXPECT_TRUE(election.holds(until - milliseconds(1)));
  EXPECT_FALSE(election.holds(until));
  EXPECT_THAT(election.problem(), HasSubstr("lease weir-system/weir-events: timeout"));
  run(now + seconds(10));
  EXPECT_TRUE(election.holds(now)) << "nobody had taken it";
  EXPECT_EQ(election.problem(), "");
}

TEST_F(LeaseElectionTest, ARenewalWhoseAnswerWasLost) {
  election.want(true, now);
  run(now + seconds(3));
  wait();
  server.answer(ask());
  tell({0, ""});
  run(now + seconds(4));
  EXPECT_TRUE(election.holds(now + seconds(5)));
  EXPECT_EQ(server.transitions(), 0);
}

TEST_F(LeaseElectionTest, WhoLosesItToAnotherKnowsAtOnce) {
  election.want(true, now);
  run(now + seconds(3));
  held_by("other");
  wait();
  run(now);
  EXPECT_FALSE(election.holds(now));
  EXPECT_EQ(server.holder(), "other");
}

TEST_F(LeaseElectionTest, ALeaseThatWasDeletedIsMadeAgain) {
  election.want(true, now);
  run(now + seconds(3));
  server.lease = nullptr;
  run(now + seconds(6));
  EXPECT_EQ(server.holder(), "one");
  EXPECT_TRUE(election.holds(now));
}

struct BadAnswer {
  const char* name;
  LeaseServer::Answer answer;
  std::optional<Duration> retry_after;
  Duration least, most;  // until it asks again
  const char* problem;
};

class BadLeaseAnswers : public LeaseElectionTest, public testing::WithParamInterface<BadAnswer> {};

TEST_P(BadLeaseAnswers, AreMetWithPatience) {
  const BadAnswer& bad = GetParam();
  election.want(true, now);
  wait();
  ask();
  tell(bad.answer, bad.retry_after);
  EXPECT_THAT(election.problem(), HasSubstr(bad.problem));
  EXPECT_EQ(election.failures(), 1u);
  EXPECT_FALSE(election.holds(now));
  const Duration waited = wait();
  EXPECT_GE(waited, bad.least);
  EXPECT_LE(waited, bad.most);
  run(now + seconds(1));
  EXPECT_TRUE(election.holds(now));
  EXPECT_EQ(election.problem(), "");
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadLeaseAnswers,
    testing::Values(
        BadAnswer{
            "forbidden", {403, R"({"message":"User weir cannot get"})"}, {}, minutes(10), minutes(10), "403 User weir"},
        BadAnswer{
            "throttled", {429, R"({"message":"too many"})"}, seconds(40), seconds(40), seconds(40), "429 too many"},
        BadAnswer{"throttled_for_long", {429, ""}, minutes(50), minutes(2), minutes(2), "429"},
        BadAnswer{"broken", {500, "<html>"}, {}, seconds(1), seconds(3), "500 <html>"},
        BadAnswer{"html", {200, "<html>"}, {}, seconds(1), seconds(3), "cannot be read: <html>"},
        BadAnswer{
            "another_thing", {200, R"({"kind":"Lease","metadata":[]})"}, {}, seconds(1), seconds(3), "cannot be read"},
        BadAnswer{"unauthorized", {401, R"({"message":"Unauthorized"})"}, {}, seconds(1), seconds(3), "401"},
        BadAnswer{"silence", {0, ""}, {}, seconds(1), seconds(3), "timeout"},
        BadAnswer{"too_much", {200, std::string(70'000, 'x')}, {}, seconds(1), seconds(3), "larger than 64 KiB"}),
    [](const auto& bad) { return bad.param.name; });

TEST_F(LeaseElectionTest, FailuresInARowAreMetWithMorePatience) {
  election.want(true, now);
  Duration waited{};
  for (int i = 0; i < 12; ++i) {
    wait();
    ask();
    tell({500, ""});
    waited = *election.due() - now;
    EXPECT_LE(waited, seconds(90));
  }
  EXPECT_GE(waited, seconds(30));
}

TEST_F(LeaseElectionTest, SpecsOfAnyShapeAreLeasesOfNobody) {
  for (const char* spec : {"null", "[]", "7", R"({"holderIdentity":7})", R"({"leaseTransitions":"x"})", "{}"}) {
    LeaseElection fresh(settings_of("one"), 1);
    server.lease = {{"metadata", {{"resourceVersion", "9"}}}, {"spec", json::parse(spec)}};
    fresh.want(true, now);
    for (int i = 0; i < 2; ++i) {
      const auto answer = server.answer(fresh.begin(now));
      fresh.on_head(answer.status, {});
      fresh.on_bytes(answer.body);
      fresh.on_end(now, "");
    }
    EXPECT_TRUE(fresh.holds(now)) << spec;
    EXPECT_EQ(server.transitions(), 1) << spec;
  }
}

// Several agents on clocks that have nothing in common, a server that takes its time, requests and answers that get
// lost, agents that die, come back, and lose interest, a time of day that stands still. Nobody may hold it while
// another does; somebody does most of the time.
TEST(LeaseElectionModel, NeverDoTwoHoldIt) {
  struct Message {
    Duration at;
    size_t agent;
    std::shared_ptr<LeaseElection> from;
    bool reaches;  // the server
    ApiRequest request;
    LeaseServer::Answer answer;
  };
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t bound) { return random() % bound; };
    LeaseServer server;
    std::vector<std::shared_ptr<LeaseElection>> elections(4);
    std::vector<Duration> clocks;
    std::vector<bool> alive(4, true);
    for (size_t i = 0; i < 4; ++i) {
      clocks.push_back(seconds(below(100'000)));
      elections[i] = std::make_shared<LeaseElection>(settings_of("agent-" + std::to_string(i)), random());
    }
    std::vector<Message> to_server, to_agent;
    int names = 4, held = 0, steps = 0, holders = 0;
    size_t last = 99;
    for (Duration time{0}; time < minutes(20); time += milliseconds(100), ++steps) {
      const bool quiet = time > minutes(17);  // at the end all is well
      for (size_t i = 0; i < elections.size(); ++i) {
        if (!quiet && below(3000) == 0) alive[i] = !alive[i];
        if (quiet) alive[i] = true;
        if (!quiet && below(4000) == 0)  // another process
          elections[i] = std::make_shared<LeaseElection>(settings_of("agent-" + std::to_string(names++)), random());
        LeaseElection& election = *elections[i];
        const Instant now{clocks[i] + time};
        if (below(300) == 0) election.hurry(now);
        election.want(quiet || below(600) != 0, now);
        if (!alive[i] || !election.due() || *election.due() > now) continue;
        const bool lost = !quiet && below(10) == 0;
        const Duration taken = milliseconds(below(quiet ? 100 : 2000));
        election.tell_time(WallTime(now.time_since_epoch()));
        to_server.push_back({time + taken, i, elections[i], !lost, election.begin(now), {}});
      }
      std::erase_if(to_server, [&](Message& message) {
        if (message.at > time) return false;
        message.answer = message.reaches ? server.answer(message.request) : LeaseServer::Answer{0, ""};
        if (!quiet && below(10) == 0) message.answer = {0, ""};
        if (!quiet && below(20) == 0) message.answer = {500, ""};
        message.at = time + milliseconds(below(quiet ? 100 : 500));
        to_agent.push_back(message);
        return true;
      });
      std::erase_if(to_agent, [&](const Message& message) {
        if (message.at > time || !alive[message.agent]) return false;
        if (message.answer.status != 0) message.from->on_head(message.answer.status, {});
        message.from->on_bytes(message.answer.body);
        message.from->on_end(Instant{clocks[message.agent] + time}, message.answer.status == 0 ? "timeout" : "");
        return true;
      });
      // One that is stopped believes in what it held: it asks its clock when it goes on.
      size_t holding = 0;
      for (size_t i = 0; i < elections.size(); ++i) {
        if (!elections[i]->holds(Instant{clocks[i] + time})) continue;
        ++holding;
        if (std::exchange(last, i) != i) ++holders;
      }
      ASSERT_LE(holding, 1u) << "seed " << seed << " at " << time.count() / 1'000'000 << " ms";
      held += holding > 0;
      if (time > minutes(18) + seconds(40)) {
        ASSERT_EQ(holding, 1u) << "seed " << seed;
      }
    }
    EXPECT_GT(held * 3, steps) << "seed " << seed;
    EXPECT_GT(holders, 1) << "seed " << seed;
  }
}

}  // namespace
}  // namespace weir::kubernetes
