#include "kubernetes/object_store.h"

#include <gtest/gtest.h>

#include "kubernetes/findings.h"
#include "manifests.h"

namespace weir::kubernetes {
namespace {

using testing::HasSubstr;

std::string service(const std::string& name, int port = 80) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
         "}\nspec: {ports: [{port: " + std::to_string(port) + "}]}\n---\n";
}

class Store : public testing::Test {
 protected:
  bool replace(const std::string& source, const std::string& text) {
    return store.replace(source, read_manifest(text, source));
  }
  // 0: there is none
  int port(const std::string& name) {
    const auto object = store.find({Kind::service, "default", name});
    return object ? std::get<Service>(*object).ports[0].port : 0;
  }
  ObjectStore store;
};

TEST_F(Store, ReplacesWhatASourceHolds) {
  EXPECT_TRUE(replace("a.yaml", service("x") + service("y")));
  EXPECT_FALSE(replace("a.yaml", service("x") + service("y")));
  EXPECT_EQ(store.size(), 2u);
  EXPECT_TRUE(replace("a.yaml", service("x", 81)));
  EXPECT_EQ(port("x"), 81);
  EXPECT_EQ(port("y"), 0);
  EXPECT_TRUE(store.forget("a.yaml"));
  EXPECT_FALSE(store.forget("a.yaml"));
  EXPECT_EQ(store.size(), 0u);
}

TEST_F(Store, ARejectedVersionLeavesTheLastGoodOne) {
  replace("a.yaml", service("x") + service("y"));
  EXPECT_TRUE(replace("a.yaml", service("x", 0) + service("y", 82)));
  EXPECT_EQ(port("x"), 80);
  EXPECT_EQ(port("y"), 82);
  ASSERT_EQ(store.findings().size(), 1u);
  EXPECT_THAT(store.findings()[0].message, HasSubstr("its last good version stays"));
  EXPECT_FALSE(replace("a.yaml", service("x", 0) + service("y", 82))) << "the same findings again";
  EXPECT_EQ(port("x"), 80) << "also when it is read once more";
  EXPECT_TRUE(replace("a.yaml", service("x", 83)));
  EXPECT_EQ(port("x"), 83);
  EXPECT_TRUE(store.findings().empty());
  replace("b.yaml", service("z", 0));
  EXPECT_EQ(port("z"), 0);
  EXPECT_THAT(store.findings()[0].message, testing::Not(HasSubstr("stays"))) << "there was none";
}

TEST_F(Store, OfWhatIsOnlyNotedTheFindingsAreKept) {
  const ObjectKey policy{Kind::authorization_policy, "shop", "deny"}, other{Kind::authorization_policy, "shop", "b"};
  const auto not_enforced = [](const ObjectKey& key) {
    return std::vector{finding(Code::not_enforced, {}, key.to_string(), "is NOT enforced")};
  };
  EXPECT_TRUE(store.note("api", policy, not_enforced(policy)));
  EXPECT_FALSE(store.note("api", policy, not_enforced(policy)));
  EXPECT_TRUE(store.note("api", other, not_enforced(other)));
  EXPECT_EQ(store.size(), 0u);
  EXPECT_TRUE(store.take_changes().empty());
  ASSERT_EQ(store.findings().size(), 2u);
  EXPECT_EQ(store.findings()[1].object, "AuthorizationPolicy shop/deny");
  EXPECT_EQ(store.findings()[1].message, "is NOT enforced");
  EXPECT_TRUE(store.retain("api", {policy}));
  ASSERT_EQ(store.findings().size(), 1u);
  EXPECT_TRUE(store.remove("api", policy));
  EXPECT_TRUE(store.findings().empty());
}

TEST_F(Store, AFileThatIsNotWellFormedKeepsEverything) {
  replace("a.yaml", service("x") + service("y"));
  EXPECT_TRUE(replace("a.yaml", service("x", 81) + "kind: [\n"));
  EXPECT_EQ(port("x"), 81);
  EXPECT_EQ(port("y"), 80);
  EXPECT_TRUE(replace("a.yaml", ": : :\n\t- ["));
  EXPECT_EQ(port("x"), 81);
  EXPECT_EQ(port("y"), 80);
  EXPECT_TRUE(replace("a.yaml", ""));
  EXPECT_EQ(store.size(), 0u);
}

TEST_F(Store, TheFirstFileWins) {
  replace("b.yaml", service("x", 2));
  EXPECT_TRUE(replace("a.yaml", service("x", 1)));
  EXPECT_EQ(port("x"), 1);
  auto findings = store.findings();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].code, "WEIR0105");
  EXPECT_EQ(findings[0].file, "b.yaml");
  EXPECT_EQ(findings[0].object, "Service default/x");
  EXPECT_THAT(findings[0].message, HasSubstr("a.yaml:1"));
  replace("a.yaml", "");
  EXPECT_EQ(port("x"), 2);
  EXPECT_TRUE(store.findings().empty());
}

TEST_F(Store, TheFirstInOneFileWins) {
  replace("a.yaml", service("x", 1) + service("x", 2));
  EXPECT_EQ(port("x"), 1);
  ASSERT_EQ(codes(store.findings()), "WEIR0105");
  EXPECT_EQ(store.findings()[0].line, 6);
  // Of a good and a bad version the good one counts, whatever the order.
  replace("b.yaml", service("y", 0) + service("y", 2));
  EXPECT_EQ(port("y"), 2);
}

TEST_F(Store, TakesSingleObjects) {
  Service object;
  object.metadata.namespace_name = "default";
  object.metadata.name = "x";
  object.ports.resize(1);
  object.ports[0].port = 7;
  EXPECT_TRUE(store.apply("api", object));
  EXPECT_FALSE(store.apply("api", object));
  object.ports[0].port = 8;
  EXPECT_TRUE(store.apply("api", object));
  EXPECT_EQ(port("x"), 8);
  EXPECT_FALSE(store.remove("other", key_of(object)));
  EXPECT_FALSE(store.remove("api", {Kind::pod, "default", "x"}));
  EXPECT_TRUE(store.remove("api", key_of(object)));
  EXPECT_FALSE(store.remove("api", key_of(object)));
  EXPECT_EQ(store.size(), 0u);
}

TEST_F(Store, WalksOneKindInOrder) {
  replace("a.yaml", service("b") + service("a") +
                        "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: z}}\n---\n" +
                        "{apiVersion: v1, kind: Namespace, metadata: {name: n}}\n");
  std::string names;
  store.for_each<Service>([&](const Service& s) { names += s.metadata.name; });
  store.for_each<Pod>([&](const Pod& p) { names += p.metadata.name; });
  store.for_each<EndpointSlice>([&](const EndpointSlice&) { names += "!"; });
  store.for_each<Namespace>([&](const Namespace& n) { names += n.metadata.name; });
  EXPECT_EQ(names, "abpn");
}

TEST_F(Store, FindingsOfASourceDoNotTouchItsObjects) {
  replace("a.yaml", service("x"));
  const std::vector<config::Finding> kFindings{finding(Code::unreadable_file, {"a.yaml", 0}, {}, "open: denied")};
  EXPECT_TRUE(store.set_findings("a.yaml", kFindings));
  EXPECT_FALSE(store.set_findings("a.yaml", kFindings));
  EXPECT_EQ(codes(store.findings()), "WEIR0002");
  EXPECT_EQ(port("x"), 80);
}

}  // namespace
}  // namespace weir::kubernetes
