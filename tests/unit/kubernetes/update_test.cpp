// Translator::update(): what changed, without looking at the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

constexpr int kServices = 6;

std::string named(const char* kind, const char* api, const std::string& name) {
  return std::string("apiVersion: ") + api + "\nkind: " + kind + "\nmetadata: {name: " + name +
         ", namespace: default}\n";
}

std::string service(int n, int port = 80) {
  const std::string id = std::to_string(n);
  return named("Service", "v1", "s" + id) + "spec: {clusterIP: 10.96.0." + id +
         ", ports: [{name: grpc, port: " + std::to_string(port) + "}]}\n";
}

// `pods` behind the Service: their addresses' last numbers.
std::string slice(const std::string& name, int of, const std::vector<int>& pods) {
  std::string text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name +
                     ", namespace: default, labels: {kubernetes.io/service-name: s" + std::to_string(of) +
                     "}}\naddressType: IPv4\nports: [{name: grpc, port: 50051}]\nendpoints:\n";
  for (const int pod : pods) text += "- addresses: [10.1.0." + std::to_string(pod) + "]\n";
  return pods.empty() ? text + "[]\n" : text;
}

// Headless, with pods of its namespace or not, and a clusterIP of another Service among their addresses.
std::string headless(int n, bool opted_in = true) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: h" + std::to_string(n) +
         ", namespace: other, annotations: {weir.dev/balance-headless: '" + (opted_in ? "true" : "false") +
         "'}}\nspec: {clusterIP: None, ports: [{name: grpc, port: 80}]}\n";
}

std::string headless_slice(const std::string& name, int of, const std::vector<int>& pods) {
  std::string text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " + name +
                     ", namespace: other, labels: {kubernetes.io/service-name: h" + std::to_string(of) +
                     "}}\naddressType: IPv4\nports: [{name: grpc, port: 80}]\nendpoints:\n- addresses: [10.96.0.1]\n";
  for (const int pod : pods) text += "- addresses: [10.1.0." + std::to_string(pod) + "]\n";
  return text;
}

// Its version is that of its number, or of another one.
std::string pod(int n, int like = -1, const std::string& home = "default") {
  const std::string id = std::to_string(n);
  return "apiVersion: v1\nkind: Pod\nmetadata: {name: p" + id + ", namespace: " + home + ", labels: {version: v" +
         std::to_string((like < 0 ? n : like) % 2) + "}}\nstatus: {podIP: 10.1.0." + id + "}\n";
}

std::string route(const std::string& name, const std::string& host, const std::string& to, int timeout) {
  return named("VirtualService", "networking.istio.io/v1", name) + "spec: {hosts: [\"" + host +
         "\"], http: [{timeout: " + std::to_string(timeout) + "s, route: [{destination: {host: " + to + "}}]}]}\n";
}

std::string rule(const std::string& name, const std::string& host, int version) {
  return named("DestinationRule", "networking.istio.io/v1", name) + "spec: {host: \"" + host +
         "\", subsets: [{name: one, labels: {version: v" + std::to_string(version) + "}}]}\n";
}

class Update : public testing::Test {
 protected:
  Update() {
    for (int n = 0; n < kServices; ++n) {
      set("service" + std::to_string(n), service(n));
      set("slice" + std::to_string(n), slice("e" + std::to_string(n), n, {2 * n, 2 * n + 1}));
    }
    for (int n = 0; n < 2 * kServices; ++n) set("pod" + std::to_string(n), pod(n));
    store_.take_changes();
    snapshot_ = translator_.build(store_, nullptr);
  }

  void set(const std::string& file, const std::string& text) { store_.replace(file, read_manifest(text, file)); }
  // Null if it reaches further than to some Services.
  std::shared_ptr<const config::Snapshot> update() {
    const auto changes = store_.take_changes();
    auto next = translator_.update(store_, changes, *snapshot_);
    const auto complete = translator_.build(store_, next ? next.get() : snapshot_.get());
    if (next) {
      // What equals is shared: any difference is one that the update made or missed.
      EXPECT_TRUE(next->services == complete->services);
      EXPECT_TRUE(next->pods == complete->pods);
      EXPECT_TRUE(*next->pods_by_address == *complete->pods_by_address);
      EXPECT_TRUE(next->directory->by_address == complete->directory->by_address);
      EXPECT_TRUE(*next->by_endpoint == *complete->by_endpoint);
      EXPECT_EQ(next->revision, snapshot_->revision + 1);
      EXPECT_TRUE(next->findings == snapshot_->findings) << "they wait for the next build";
    }
    before_ = std::exchange(snapshot_, complete);
    return next;
  }
  std::string changed() const {
    std::string names;
    for (size_t i = 0; i < snapshot_->services.size(); ++i)
      if (snapshot_->services[i] != before_->services[i]) names += snapshot_->services[i]->name + " ";
    return names;
  }

  ObjectStore store_;
  Translator translator_{{}};
  std::shared_ptr<const config::Snapshot> snapshot_, before_;
};

TEST_F(Update, ReachesTheServicesThatAChangeConcerns) {
  const struct {
    const char* what;
    std::string file, text;
    std::string changed;  // "-": the change reaches further
  } cases[] = {
      {"endpoints", "slice1", slice("e1", 1, {9}), "s1 "},
      {"a second slice", "more", slice("more", 2, {20}), "s2 "},
      {"a slice that moves to another Service", "more", slice("more", 3, {20}), "s2 s3 "},
      {"a slice that goes", "more", "", "s3 "},
      {"a slice of no Service", "more", slice("more", 77, {20}), ""},
      {"a route", "route", route("r", "s4", "s5", 1), "s4 "},
      {"a route that is another", "route", route("r", "s4", "s5", 2), "s4 "},
      {"a route that moves", "route", route("r", "s0", "s5", 2), "s0 s4 "},
      {"a younger route for the same host", "route2", route("r2", "s0", "s1", 2), "s0 "},
      {"a route of nobody's host", "route3", route("r3", "nobody", "s1", 2), ""},
      {"a route for all", "route4", route("r4", "*", "s1", 2), "-"},
      {"a rule", "rule", rule("d", "s5", 1), "s5 "},
      {"a rule with other subsets", "rule", rule("d", "s5", 0), "s5 "},
      {"a rule that goes", "rule", "", "s5 "},
      {"a rule for all", "rule", rule("d", "*.default.svc.cluster.local", 0), "-"},
      {"a Service's labels", "service1", service(1) + "metadata2: {}\n", ""},
      {"a Service's port", "service1", service(1, 81), "-"},
      {"a Service that comes", "service9", service(9), "-"},
      {"a Service that goes", "service9", "", "-"},
      {"a pod's label", "pod7", pod(7, 8), "s3 "},
      {"a pod that goes", "pod8", "", "s4 "},
      {"a pod that comes", "pod8", pod(8, 8), "s4 "},
      {"a pod of no Service", "pod55", pod(55), ""},
      {"a headless Service that comes", "h0", headless(0), "-"},
      {"its endpoints", "h0-slice", headless_slice("h0", 0, {50, 55}), "h0 "},
      {"one of them is a pod of another namespace", "pod50", pod(50), "h0 "},
      {"it is not any more", "pod50", "", "h0 "},
      {"it wants to be dialled at its endpoints no more", "h0", headless(0, false), "h0 "},
      {"a namespace", "home", "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n", ""},
      {"the mesh's configuration", "mesh",
       "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n"
       "data: {mesh: 'rootNamespace: root'}\n",
       "-"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.what);
    set(c.file, c.text);
    const bool updated = update() != nullptr;
    EXPECT_EQ(updated, c.changed != "-");
    if (updated) {
      EXPECT_EQ(changed(), c.changed);
    }
  }
}

// Any sequence of changes leads to where a complete build leads.
TEST_F(Update, EqualsACompleteBuild) {
  std::mt19937 random(20);
  const auto below = [&](int end) { return static_cast<int>(random() % static_cast<uint32_t>(end)); };
  const auto host = [&] { return below(8) == 0 ? std::string("*") : "s" + std::to_string(below(kServices + 1)); };
  int updates = 0, dialled = 0;
  for (int step = 0; step < 2000; ++step) {
    for (int change = below(3); change >= 0; --change) {
      const std::string id = std::to_string(below(4));
      const bool gone = below(4) == 0;
      const int kind = below(28);
      if (kind >= 26) {
        set("headless" + id, gone && below(4) == 0 ? "" : headless(std::stoi(id), below(4) > 0));
      } else if (kind >= 23) {
        const std::vector<int> pods{below(12), below(12)};
        set("hslice" + id, gone ? "" : headless_slice("hs" + id, below(4), pods));
      } else if (kind == 22) {
        set("hpod" + id, gone ? "" : pod(std::stoi(id), 0, below(2) ? "other" : "third"));
      } else if (kind == 0 || kind > 19) {
        set("pod" + id, gone ? "" : pod(std::stoi(id), below(2)));
      } else if (kind == 1) {
        set("service" + id, gone ? "" : service(std::stoi(id), 80 + below(2)));
      } else if (kind < 8) {
        set("slice" + id, gone ? "" : slice("e" + id, below(kServices), {below(12), below(12)}));
      } else if (kind < 14) {
        set("route" + id, gone ? "" : route("r" + id, host(), "s" + std::to_string(below(kServices)), 1 + below(2)));
      } else {
        set("rule" + id, gone ? "" : rule("d" + id, host(), below(2)));
      }
    }
    updates += update() != nullptr;
    dialled += !snapshot_->by_endpoint->empty();
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
  EXPECT_GT(updates, 1000);
  EXPECT_GT(dialled, 1000);
}

}  // namespace
}  // namespace weir::kubernetes
