#include "admin/unmanaged_metrics.h"

#include <gmock/gmock.h>

namespace weir::admin {
namespace {

using testing::HasSubstr;
using testing::Not;

interception::UnmanagedCount count(const std::string& pod, uint64_t connections) {
  auto of = std::make_shared<config::Pod>();
  of->namespace_name = "default";
  of->name = pod;
  auto service = std::make_shared<config::Service>();
  service->fqdn = "greeter.default.svc.cluster.local";
  return {of, service, connections};
}

std::string exposition(const UnmanagedTotals& totals) {
  telemetry::Metrics metrics;
  add_unmanaged_metrics(metrics, [&] { return totals; });
  return metrics.exposition();
}

TEST(UnmanagedMetricsTest, ByPodAndService) {
  const std::string text = exposition({{count("client", 3)}, 2, {5, 0, 1, 4}});
  EXPECT_THAT(text, HasSubstr("weir_unmanaged_connections{source_namespace=\"default\",source_pod=\"client\","
                              "destination_service=\"greeter.default.svc.cluster.local\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("weir_unmanaged_count_failures_total 2\n"));
  EXPECT_THAT(text, HasSubstr("weir_adoptions_total{result=\"closed\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("weir_adoptions_total{result=\"gone\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("weir_adoptions_total{result=\"managed\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("weir_adoptions_total{result=\"active\"} 4\n"));
}

TEST(UnmanagedMetricsTest, TheSeriesAreBoundedAndTheirSumIsRight) {
  UnmanagedTotals totals;
  for (size_t i = 1; i <= kMostUnmanagedSeries; ++i) totals.counts.push_back(count("pod-" + std::to_string(i), i));
  EXPECT_THAT(exposition(totals), Not(HasSubstr("other")));
  totals.counts.push_back(count("one-more", 1000));
  const std::string text = exposition(totals);
  const std::string name = "\nweir_unmanaged_connections{";
  size_t series = 0;
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) ++series;
  EXPECT_EQ(series, kMostUnmanagedSeries);
  EXPECT_THAT(text, HasSubstr("source_pod=\"one-more\""));
  EXPECT_THAT(text, HasSubstr("source_pod=\"other\",destination_service=\"other\"} 3\n"));  // the two smallest
}

}  // namespace
}  // namespace weir::admin
