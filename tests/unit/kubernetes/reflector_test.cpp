#include "kubernetes/reflector.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace weir::kubernetes {
namespace {

using base::Instant;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::string service(const std::string& name, int version, const std::string& more = "") {
  return R"({"metadata":{"name":")" + name + R"(","namespace":"default","resourceVersion":")" +
         std::to_string(version) + R"("},"spec":{"clusterIP":"10.96.0.1","ports":[{"name":"grpc","port":50051}]})" +
         more + "}";
}

std::string event(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}\n";
}

std::string bookmark(int version, bool end = false) {
  const std::string annotations = end ? R"(,"annotations":{"k8s.io/initial-events-end":"true"})" : "";
  return event("BOOKMARK", R"({"kind":"Service","metadata":{"resourceVersion":")" + std::to_string(version) + "\"" +
                               annotations + "}}");
}

std::string page(const std::vector<std::string>& items, int version, const std::string& token = "") {
  std::string text = R"({"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":")" +
                     std::to_string(version) + R"(","continue":")" + token + R"("},"items":[)";
  for (size_t i = 0; i < items.size(); ++i) text += (i ? "," : "") + items[i];
  return text + "]}";
}

std::string status(int code, const std::string& message) {
  return R"({"kind":"Status","status":"Failure","message":")" + message + R"(","code":)" + std::to_string(code) + "}";
}

// One line a change: "put default/a", "rejected default/a VERSION", "removed ...", "retained a b".
std::string to_text(const ApiChange& change) {
  if (const auto* put = std::get_if<ApiChange::Put>(&change.what)) return "put " + key_of(put->object).name;
  if (const auto* rejected = std::get_if<ApiChange::Rejected>(&change.what))
    return "rejected " + rejected->key.name + " " + rejected->version;
  if (const auto* noted = std::get_if<ApiChange::Noted>(&change.what))
    return "noted " + noted->key.to_string() + (noted->findings.empty() ? "" : " " + noted->findings[0].code);
  if (const auto* removed = std::get_if<ApiChange::Removed>(&change.what)) return "removed " + removed->key.name;
  std::string text = "retained";
  for (const ObjectKey& key : std::get<ApiChange::Retained>(change.what).keys) text += " " + key.name;
  return text;
}

class ReflectorTest : public ::testing::Test {
 protected:
  ReflectorTest() : ReflectorTest({"services", "Service", Kind::service, {{"v1", "/api/v1/services"}}}) {}
  explicit ReflectorTest(Resource resource)
      : reflector(std::make_unique<Reflector>(std::move(resource), ReflectorSettings{}, 7, &changes)) {}

  // Waits until a request is due, and answers it. Returns its target.
  std::string answer(int code, const std::string& body, const std::string& error = "",
                     std::optional<base::Duration> retry_after = {}) {
    const std::string target = ask();
    if (code != 0) reflector->on_head(code, retry_after);
    for (size_t at = 0; at < body.size(); at += 7)
      if (!reflector->on_bytes(std::string_view(body).substr(at, 7))) break;
    now += lasts;
    reflector->on_end(now, error);
    return target;
  }
  std::string ask() {
    const auto due = reflector->due();
    EXPECT_TRUE(due) << "a request runs already";
    waited = std::max(*due - now, base::Duration(0));
    now += waited;
    return reflector->begin(now).target;
  }
  std::vector<std::string> heard() {
    std::vector<std::string> result;
    for (const ApiChange& change : std::exchange(changes, {})) result.push_back(to_text(change));
    return result;
  }
  // Until the list is complete, at resourceVersion 10, with the Services a and b.
  void list() {
    answer(200, event("ADDED", service("a", 4)) + event("ADDED", service("b", 5)) + bookmark(10, true));
    heard();
  }

  std::vector<ApiChange> changes;
  std::unique_ptr<Reflector> reflector;
  Instant now{seconds(1000)};
  base::Duration lasts = seconds(20);  // an answer
  base::Duration waited{};             // before the last request
};

using Lines = std::vector<std::string>;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(ReflectorTest, StreamsTheListAndWatchesFromItsEnd) {
  const std::string first =
      answer(200, event("ADDED", service("a", 4)) + event("ADDED", service("b", 5)) + bookmark(10, true) +
                      event("MODIFIED", service("a", 11)) + event("DELETED", service("b", 12)));
  EXPECT_TRUE(has(first, "/api/v1/services?watch=1&")) << first;
  EXPECT_TRUE(has(first, "sendInitialEvents=true&resourceVersionMatch=NotOlderThan")) << first;
  EXPECT_TRUE(has(first, "allowWatchBookmarks=true")) << first;
  EXPECT_EQ(heard(), (Lines{"put a", "put b", "retained a b", "put a", "removed b"}));
  EXPECT_TRUE(reflector->synced());
  EXPECT_EQ(reflector->problem(), "");
  const std::string second = answer(200, bookmark(40));
  EXPECT_TRUE(has(second, "resourceVersion=12")) << second;
  EXPECT_EQ(waited, base::Duration(0)) << "a watch that ran its time is begun anew at once";
  EXPECT_TRUE(has(ask(), "resourceVersion=40")) << "bookmarks carry the version on";
}

TEST_F(ReflectorTest, AListThatCameAsEventsIsAsPatientAsAWatchFromItsEnd) {
  ask();
  reflector->on_head(200, {});
  EXPECT_EQ(reflector->silence(), ReflectorSettings{}.list_silence);
  reflector->on_bytes(bookmark(10, true));
  EXPECT_EQ(reflector->silence(), ReflectorSettings{}.watch_silence);
}

TEST_F(ReflectorTest, BytesThatAreNoEventAreNoProgress) {
  list();
  ask();
  reflector->on_head(200, {});
  const uint64_t before = reflector->progress();
  const std::string next = bookmark(12);
  for (const char c : next.substr(0, next.size() - 1)) {
    reflector->on_bytes({&c, 1});
    EXPECT_EQ(reflector->progress(), before);
  }
  reflector->on_bytes("\n");
  EXPECT_NE(reflector->progress(), before);
}

TEST_F(ReflectorTest, APageMayComeInPiecesButNotForEver) {
  answer(400, "");
  now += seconds(1);
  EXPECT_EQ(reflector->begin(now).time_limit, ReflectorSettings{}.page_limit);
  reflector->on_head(200, {});
  const uint64_t before = reflector->progress();
  reflector->on_bytes("{");
  EXPECT_NE(reflector->progress(), before);
}

TEST_F(ReflectorTest, IsFollowedAgainOnceAWatchHasBegun) {
  list();
  answer(500, "broken");
  ASSERT_NE(reflector->problem(), "");
  ask();
  EXPECT_NE(reflector->problem(), "");
  reflector->on_head(200, {});
  EXPECT_EQ(reflector->problem(), "") << "the next event may be an hour away";
}

TEST_F(ReflectorTest, ListsInPagesWhereTheServerHasNoStreamedLists) {
  for (const int refusal : {400, 422}) {
    SetUp();
    ReflectorTest::reflector = std::make_unique<Reflector>(
        Resource{"services", "Service", Kind::service, {{"v1", "/api/v1/services"}}}, ReflectorSettings{}, 7, &changes);
    answer(refusal, status(refusal, "sendInitialEvents is forbidden"));
    EXPECT_TRUE(has(answer(200, page({service("a", 4), service("b", 5)}, 9, "to/ken=")), "?limit=500"));
    EXPECT_EQ(waited, base::Duration(0));
    EXPECT_FALSE(reflector->synced()) << "there is another page";
    const std::string next = answer(200, page({service("c", 6)}, 9));
    EXPECT_TRUE(has(next, "limit=500&continue=to%2Fken%3D")) << next;
    EXPECT_EQ(heard(), (Lines{"put a", "put b", "put c", "retained a b c"}));
    EXPECT_TRUE(has(ask(), "resourceVersion=9"));
    reflector->on_end(now, "");
  }
}

TEST_F(ReflectorTest, ListsInPagesWhenAStreamedListNeverEnds) {
  answer(200, event("ADDED", service("a", 4)), "the server has said nothing for too long");
  EXPECT_FALSE(reflector->synced());
  EXPECT_TRUE(has(answer(200, page({service("b", 5)}, 9)), "?limit=500"));
  EXPECT_EQ(heard(), (Lines{"put a", "put b", "retained b"})) << "what was no longer there is gone";
}

TEST_F(ReflectorTest, ListsAnewWhenTheVersionIsGone) {
  struct Case {
    std::string what;
    int code;
    std::string body;
  };
  const std::vector<Case> cases = {{"an ERROR event", 200, event("ERROR", status(410, "too old resource version"))},
                                   {"an HTTP status", 410, status(410, "Expired")}};
  for (const Case& row : cases) {
    list();
    answer(row.code, row.body);
    EXPECT_TRUE(has(reflector->problem(), row.code == 200 ? "too old" : "Expired")) << row.what;
    EXPECT_TRUE(has(answer(200, event("ADDED", service("c", 20)) + bookmark(21, true)), "sendInitialEvents"))
        << row.what;
    EXPECT_LE(waited, milliseconds(300)) << row.what;
    EXPECT_EQ(heard(), (Lines{"put c", "retained c"})) << row.what;
    reflector->start_over(now);
  }
}

TEST_F(ReflectorTest, OtherFailuresOfAWatchGoOnFromItsVersion) {
  list();
  const std::vector<std::pair<int, std::string>> failures = {
      {500, "broken"}, {200, event("ERROR", status(500, "etcd is away"))}, {0, ""}, {401, status(401, "Unauthorized")}};
  for (const auto& [code, body] : failures) {
    lasts = seconds(0);
    EXPECT_TRUE(has(answer(code, body, code == 0 ? "connection refused" : ""), "resourceVersion=10")) << code;
    EXPECT_NE(reflector->problem(), "") << code;
  }
  lasts = seconds(20);
  EXPECT_TRUE(has(answer(200, event("ADDED", service("c", 30))), "resourceVersion=10"));
  EXPECT_EQ(heard(), Lines{"put c"});
  EXPECT_EQ(reflector->problem(), "");
}

TEST_F(ReflectorTest, WaitsLongerWithEachFailureAndListsAnewAfterSome) {
  list();
  lasts = seconds(0);
  base::Duration least = milliseconds(100), most = milliseconds(300);
  for (int i = 0; i < 12; ++i) {
    answer(504, "");
    ask();
    EXPECT_GE(waited, least) << i;
    EXPECT_LE(waited, most) << i;
    reflector->on_head(504, std::nullopt);
    reflector->on_end(now, "");
    least = std::min<base::Duration>(least * 4, seconds(15));
    most = std::min<base::Duration>(most * 4, seconds(45));
  }
  EXPECT_TRUE(has(ask(), "sendInitialEvents")) << "the version may be what is wrong";
}

TEST_F(ReflectorTest, AServerThatIsAwayOrBusyTakesNoVersionAway) {
  list();
  lasts = seconds(0);
  for (const int status : {503, 429, 401, 403, 502}) {
    for (int i = 0; i < 8; ++i) answer(status, "");
    EXPECT_TRUE(has(ask(), "&resourceVersion=")) << status;
    reflector->on_end(now, "");
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_FALSE(has(ask(), "sendInitialEvents")) << "connection refused, " << i;
    reflector->on_end(now, "Connection refused");
  }
}

TEST_F(ReflectorTest, AServerThatIsBackIsNotWaitedForOnceMore) {
  list();
  lasts = seconds(0);
  for (int i = 0; i < 8; ++i) answer(503, "");
  answer(200, event("ERROR", status(410, "too old resource version")));
  EXPECT_TRUE(has(ask(), "sendInitialEvents"));
  EXPECT_LE(waited, milliseconds(300));
}

TEST_F(ReflectorTest, WhatIsNestedBeyondAllObjectsIsRefused) {
  const size_t kDeep = 200'000;
  const std::string nest = std::string(kDeep, '[') + std::string(kDeep, ']');
  const std::string deep = R"({"metadata":{"name":"r","namespace":"a","resourceVersion":"3"},"spec":)" + nest + "}";
  answer(200, event("ADDED", deep));
  EXPECT_TRUE(has(reflector->problem(), "an event cannot be read")) << reflector->problem();
  EXPECT_TRUE(changes.empty());
  answer(200, R"({"metadata":{"resourceVersion":"3"},"items":[)" + deep + "]}");
  EXPECT_TRUE(has(reflector->problem(), "the list cannot be read")) << reflector->problem();
}

TEST_F(ReflectorTest, AWatchThatEndsAtOnceIsAFailure) {
  list();
  lasts = milliseconds(3);
  answer(200, "");
  ask();
  EXPECT_GE(waited, milliseconds(100));
}

TEST_F(ReflectorTest, ObeysRetryAfterWithinReason) {
  answer(429, status(429, "slow down"), "", seconds(7));
  ask();
  EXPECT_GE(waited, seconds(7));
  reflector->on_head(429, std::chrono::hours(5));
  reflector->on_end(now, "");
  ask();
  EXPECT_LE(waited, seconds(120));
}

TEST_F(ReflectorTest, NamesWhatIsRefused) {
  answer(403, status(403, "services is forbidden: User \\\"weir\\\" cannot list resource"));
  EXPECT_EQ(reflector->problem(), "403 services is forbidden: User \"weir\" cannot list resource");
  answer(200, "<html><body>Sign in</body></html>\n");
  EXPECT_TRUE(has(reflector->problem(), "an event cannot be read: <html>")) << reflector->problem();
}

TEST_F(ReflectorTest, WhatCannotBeReadChangesNothing) {
  list();
  const std::string good = event("ADDED", service("c", 20));
  for (const std::string& bad : {std::string("{\"type\":\"ADDED\",\"obj"), std::string("[]\n"), std::string("17\n"),
                                 std::string("{\"type\":\"ADDED\"}\n"), std::string("{\"type\":7,\"object\":{}}\n"),
                                 std::string("{\"type\":\"DELETED\",\"object\":[]}\n")}) {
    answer(200, good + bad + good);
    const Lines lines = heard();
    EXPECT_EQ(lines, bad.ends_with("\n") ? Lines{"put c"} : (Lines{"put c"})) << bad;
    EXPECT_TRUE(reflector->synced());
  }
}

TEST_F(ReflectorTest, AListThatIsCutRemovesNothing) {
  answer(400, "");
  answer(200, page({service("a", 4), service("b", 5)}, 9));
  heard();
  reflector->start_over(now);
  const std::string whole = page({service("a", 4)}, 9);
  answer(200, whole.substr(0, whole.size() - 2));
  EXPECT_EQ(heard(), Lines{"put a"}) << "no `retained`";
  EXPECT_EQ(reflector->problem(), "the list cannot be read");
}

TEST_F(ReflectorTest, MalformedObjectsAreRejectedOneByOne) {
  const std::string broken =
      R"({"metadata":{"name":"b","namespace":"default","resourceVersion":"5"},"spec":{"ports":"none"}})";
  answer(200, event("ADDED", service("a", 4)) + event("ADDED", broken) + event("ADDED", R"({"metadata":{}})") +
                  bookmark(9, true));
  EXPECT_EQ(heard(), (Lines{"put a", "rejected b 5", "retained a b"}));
}

TEST_F(ReflectorTest, RefusesWhatIsTooLarge) {
  answer(400, "");
  ask();
  reflector->on_head(200, std::nullopt);
  const std::string much(size_t{1} << 20, ' ');
  int taken = 0;
  while (reflector->on_bytes(much)) ++taken;
  EXPECT_EQ(taken, 64);
  reflector->on_end(now, "given up");
  EXPECT_EQ(reflector->problem(), "a page of the list is larger than 64 MiB");
  answer(200, page({}, 3));
  ask();
  reflector->on_head(200, std::nullopt);
  taken = 0;
  while (reflector->on_bytes(much)) ++taken;
  EXPECT_EQ(taken, 8);
  reflector->on_end(now, "given up");
  EXPECT_EQ(reflector->problem(), "an event is larger than 8 MiB");
}

class MissingResource : public ReflectorTest {
 protected:
  MissingResource() : ReflectorTest(crd()) {}
  static Resource crd() {
    Resource resource{"virtualservices",
                      "VirtualService",
                      Kind::virtual_service,
                      {{"networking.istio.io/v1", "/apis/networking.istio.io/v1/virtualservices"},
                       {"networking.istio.io/v1beta1", "/apis/networking.istio.io/v1beta1/virtualservices"}}};
    resource.group = "networking.istio.io";
    return resource;
  }
};

TEST_F(MissingResource, CountsAsEmptyUntilItIsAskedForAgain) {
  EXPECT_TRUE(has(answer(404, "404 page not found"), "/v1/"));
  EXPECT_FALSE(reflector->synced()) << "an older version may be there";
  EXPECT_TRUE(has(answer(404, "404 page not found"), "/v1beta1/"));
  EXPECT_TRUE(reflector->synced());
  EXPECT_TRUE(reflector->missing());
  EXPECT_EQ(reflector->problem(), "");
  EXPECT_EQ(heard(), Lines{"retained"});
  EXPECT_FALSE(reflector->due()) << "who asks for the group says when to look again";
  EXPECT_FALSE(reflector->running());
  reflector->start_over(now);
  const std::string rule =
      R"({"kind":"PartialObjectMetadata","metadata":{"name":"r","namespace":"a",)"
      R"("resourceVersion":"3"},"spec":{"hosts":["x"],"http":[{"route":[{"destination":{"host":"x"}}]}]}})";
  EXPECT_TRUE(has(answer(200, event("ADDED", rule) + bookmark(4, true)), "/v1/"));
  EXPECT_EQ(waited, base::Duration(0));
  EXPECT_EQ(heard(), (Lines{"put r", "retained r"}));
  EXPECT_FALSE(reflector->missing());
  // The CRD is removed, and its objects with it. It is asked for several times over some seconds.
  lasts = seconds(0);
  answer(404, "<html><body>404 Not Found: nginx</body></html>");
  const base::Instant begun = now;
  for (int i = 0; i < 9; ++i) answer(404, "404 page not found");
  EXPECT_EQ(heard(), Lines{});
  EXPECT_EQ(reflector->problem(), "404 404 page not found");
  EXPECT_GT(now - begun, milliseconds(1500));
  answer(404, "404 page not found");
  EXPECT_EQ(heard(), Lines{"retained"});
  EXPECT_TRUE(reflector->missing());
}

TEST_F(MissingResource, IsMissingOnlyInAllItsVersions) {
  answer(404, "404 page not found");
  answer(200, bookmark(4, true));
  EXPECT_EQ(heard(), Lines{"retained"});
  EXPECT_FALSE(reflector->missing());
  lasts = seconds(0);
  // v1beta1 goes, which was the last that was asked for; v1 has come meanwhile.
  EXPECT_TRUE(has(answer(404, "404 page not found"), "/v1beta1/"));
  EXPECT_TRUE(has(answer(200, bookmark(5, true)), "/v1/"));
  EXPECT_FALSE(reflector->missing());
}

class MetadataOnly : public ReflectorTest {
 protected:
  MetadataOnly() : ReflectorTest(pods_elsewhere("node-1")) {}
};

// A server refuses the one where the other belongs, and says null of a list without items.
TEST_F(MetadataOnly, IsAskedForAsAnObjectOrAsAList) {
  EXPECT_EQ(reflector->begin(now).form, ApiForm::metadata);
  reflector->on_head(400, std::nullopt);
  reflector->on_end(now, "");
  EXPECT_EQ(reflector->begin(now).form, ApiForm::metadata_list);
  reflector->on_head(200, std::nullopt);
  reflector->on_bytes(R"({"kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"7"},"items":null})");
  reflector->on_end(now, "");
  EXPECT_TRUE(reflector->synced());
  EXPECT_EQ(reflector->begin(now).form, ApiForm::metadata);
}

// What becomes no object, but has to be told: by its findings alone.
class Policies : public ReflectorTest {
 protected:
  static Resource named(const std::string& name) {
    for (Resource& resource : watched_resources("node-1"))
      if (resource.name == name) return resource;
    return {};
  }
  void follow(const std::string& name) {
    reflector = std::make_unique<Reflector>(named(name), ReflectorSettings{}, 7, &changes);
  }
  static std::string policy(const std::string& name, const std::string& more = "") {
    return R"({"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"namespace":"shop","name":")" +
           name + R"(","resourceVersion":"4"})" + more + "}";
  }
};

TEST_F(Policies, AreNoted) {
  const struct {
    const char *resource, *spec, *noted;
  } kCases[] = {
      {"authorizationpolicies", "", "noted AuthorizationPolicy shop/p WEIR0202"},
      {"requestauthentications", "", "noted RequestAuthentication shop/p WEIR0202"},
      {"peerauthentications", R"(,"spec":{"mtls":{"mode":"STRICT"}})", "noted PeerAuthentication shop/p WEIR0202"},
      {"peerauthentications", R"(,"spec":{"mtls":{"mode":"PERMISSIVE"}})", "noted PeerAuthentication shop/p WEIR0203"},
      {"gateways", R"(,"spec":{})", "noted Gateway shop/p WEIR0201"},
  };
  for (const auto& row : kCases) {
    follow(row.resource);
    const std::string resource = row.resource;
    EXPECT_FALSE(reflector->resource().is_awaited) << resource << ": an agent that may not read it serves all the same";
    EXPECT_EQ(reflector->resource().metadata_only, *row.spec == '\0') << resource;
    answer(200, event("ADDED", policy("p", row.spec)) + event("ADDED", policy("")) + bookmark(9, true) +
                    event("DELETED", policy("p")));
    EXPECT_EQ(heard(), (Lines{row.noted, "retained p", "removed p"})) << resource;
  }
}

TEST_F(Policies, OfAnOlderIstioAreThereToo) {
  follow("authorizationpolicies");
  EXPECT_TRUE(has(answer(404, "404 page not found"), "/apis/security.istio.io/v1/authorizationpolicies"));
  EXPECT_TRUE(has(answer(200, event("ADDED", policy("p")) + bookmark(9, true)), "/v1beta1/"));
  EXPECT_EQ(heard(), (Lines{"noted AuthorizationPolicy shop/p WEIR0202", "retained p"}));
}

class PodsElsewhere : public ReflectorTest {
 protected:
  PodsElsewhere() : ReflectorTest(pods_elsewhere("node-1")) {}
};

TEST_F(PodsElsewhere, KeepOnlyTheLabelsThatAreAskedFor) {
  reflector->keep_labels({"version"});
  const std::string pod = R"({"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"p",)"
                          R"("namespace":"default","uid":"u-1","resourceVersion":"3","annotations":{"a":"b"},)"
                          R"("labels":{"version":"v1","app":"x"}}})";
  const auto request = reflector->begin(now);
  EXPECT_EQ(request.form, ApiForm::metadata);
  EXPECT_TRUE(has(request.target, "fieldSelector=spec.nodeName%21%3Dnode-1&")) << request.target;
  reflector->on_head(200, std::nullopt);
  reflector->on_bytes(event("ADDED", pod));
  ASSERT_EQ(changes.size(), 1u);
  const auto& object = std::get<ApiChange::Put>(changes[0].what).object;
  EXPECT_EQ(metadata_of(object).labels, (Labels{{"version", "v1"}}));
  EXPECT_TRUE(metadata_of(object).annotations.empty());
  EXPECT_EQ(metadata_of(object).uid, "u-1");
}

}  // namespace
}  // namespace weir::kubernetes
