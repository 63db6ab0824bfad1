// A large cluster: 10,000 Services with a VirtualService each, 20,000 endpoints, 2,000 Pods. Most limits are wide, to
// catch a quadratic step and not a slow machine; the figures are printed.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/clock.h"
#include "manifests.h"

namespace weir::kubernetes {
namespace {

constexpr int kServices = 10'000;
constexpr int kPods = 2000;
constexpr double kLongestUpdate = 5;  // milliseconds

base::IpAddress address(int high, int n) {
  return *base::IpAddress::parse("10." + std::to_string(high + n / 65536) + "." + std::to_string(n / 256 % 256) + "." +
                                 std::to_string(n % 256));
}

Metadata metadata(const std::string& prefix, int n) {
  Metadata result;
  result.namespace_name = "ns-" + std::to_string(n % 50);
  result.name = prefix + "-" + std::to_string(n);
  result.labels = {{"app", result.name}, {"version", "v1"}};
  return result;
}

EndpointSlice slice(int n) {
  EndpointSlice result;
  result.metadata = metadata("service", n);
  result.service = result.metadata.name;
  result.ports.push_back({"grpc", uint16_t{50051}, "TCP", std::nullopt});
  for (int i = 0; i < 2; ++i) {
    SliceEndpoint endpoint;
    endpoint.addresses.push_back(address(128, 2 * n + i));
    endpoint.pod = "pod-" + std::to_string(2 * n + i);
    result.endpoints.push_back(std::move(endpoint));
  }
  return result;
}

VirtualService route(int n, int weight) {
  VirtualService result;
  result.metadata = metadata("service", n);
  result.hosts = {result.metadata.name};
  config::RouteRule& rule = result.http.emplace_back();
  for (const int share : {weight, 100 - weight}) {
    config::RouteDestination& destination = rule.destinations.emplace_back();
    destination.host = result.metadata.name;
    destination.weight = static_cast<uint32_t>(share);
  }
  return result;
}

void fill(ObjectStore& store) {
  for (int n = 0; n < kServices; ++n) {
    Service service;
    service.metadata = metadata("service", n);
    service.cluster_ips.push_back(address(96, n));
    service.ports.resize(1);
    service.ports[0].name = "grpc";
    service.ports[0].port = 80;
    store.apply("api", std::move(service));
    store.apply("api", slice(n));
    store.apply("api", route(n, 90));
  }
  for (int n = 0; n < kPods; ++n) {
    Pod pod;
    pod.metadata = metadata("pod", n);
    pod.metadata.uid = std::to_string(n);
    pod.ips.push_back(address(128, n));
    store.apply("api", std::move(pod));
  }
}

template <class F>
double milliseconds(const char* what, F&& work) {
  auto start = base::MonotonicClock::now();
  work();
  double taken = std::chrono::duration<double, std::milli>(base::MonotonicClock::now() - start).count();
  testing::Test::RecordProperty(what, std::to_string(taken));
  std::printf("%s: %.1f ms\n", what, taken);
  return taken;
}

TEST(Scale, ALargeClusterTranslatesInAMoment) {
  ObjectStore store;
  milliseconds("fill", [&] { fill(store); });
  store.take_changes();
  Translator translator({});
  std::shared_ptr<const config::Snapshot> first, second;
  EXPECT_LT(milliseconds("build", [&] { first = translator.build(store, nullptr); }), 5000);
  ASSERT_EQ(first->services.size(), size_t{kServices});
  ASSERT_EQ(first->services[7]->ports[0].cluster->endpoints.size(), 2u);
  EndpointSlice changed = slice(7);
  changed.endpoints.pop_back();
  store.apply("api", std::move(changed));
  EXPECT_LT(milliseconds("rebuild", [&] { second = translator.build(store, first.get()); }), 5000);
  size_t different = 0;
  for (size_t i = 0; i < first->services.size(); ++i) different += first->services[i] != second->services[i];
  EXPECT_EQ(different, 1u) << "one endpoint's change rebuilds one service";
  EXPECT_EQ(first->pods, second->pods);
}

TEST(Scale, AChangeOfOneServiceIsAppliedAtOnce) {
  constexpr int kChanges = 200;
  ObjectStore store;
  fill(store);
  store.take_changes();
  Translator translator({});
  std::shared_ptr<const config::Snapshot> snapshot = translator.build(store, nullptr);
  const auto median = [&](const char* what, auto&& change) {
    std::vector<double> taken;
    for (int i = 0; i < kChanges; ++i) {
      change(i);
      const auto start = base::MonotonicClock::now();
      const auto changes = store.take_changes();
      auto next = translator.update(store, changes, *snapshot);
      taken.push_back(std::chrono::duration<double, std::milli>(base::MonotonicClock::now() - start).count());
      EXPECT_TRUE(next);
      if (!next) return 1e9;
      snapshot = std::move(next);
    }
    std::nth_element(taken.begin(), taken.begin() + kChanges / 2, taken.end());
    testing::Test::RecordProperty(what, std::to_string(taken[kChanges / 2]));
    std::printf("%s: %.2f ms (median)\n", what, taken[kChanges / 2]);
    return taken[kChanges / 2];
  };
  EXPECT_LT(median("an EndpointSlice",
                   [&](int i) {
                     EndpointSlice changed = slice(i);
                     changed.endpoints.pop_back();
                     store.apply("api", std::move(changed));
                   }),
            kLongestUpdate);
  EXPECT_LT(median("a VirtualService", [&](int i) { store.apply("api", route(i, i % 80)); }), kLongestUpdate);
}

TEST(Scale, ALargeFileIsReadInAMoment) {
  std::string text;
  for (int n = 0; n < kServices; ++n) {
    std::string name = "service-" + std::to_string(n);
    text += "apiVersion: v1\nkind: Service\nmetadata:\n  name: " + name +
            "\nspec:\n  clusterIP: " + address(96, n).to_string() +
            "\n  ports:\n  - name: grpc\n    port: 80\n---\napiVersion: discovery.k8s.io/v1\n" +
            "kind: EndpointSlice\nmetadata:\n  name: " + name + "\n  labels:\n    kubernetes.io/service-name: " + name +
            "\naddressType: IPv4\nports:\n- name: grpc\n  port: 50051\nendpoints:\n- addresses: [" +
            address(128, 2 * n).to_string() + "]\n- addresses: [" + address(128, 2 * n + 1).to_string() + "]\n---\n";
  }
  SourceContents contents;
  EXPECT_LT(milliseconds("read a file of 10,000 objects", [&] { contents = read_manifest(text, "f.yaml"); }), 20'000);
  EXPECT_EQ(contents.objects.size(), size_t{2 * kServices}) << testing::PrintToString(contents);
}

}  // namespace
}  // namespace weir::kubernetes
