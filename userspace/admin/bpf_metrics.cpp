#include "admin/bpf_metrics.h"

#include <string_view>

#include "weir/admin_api.h"

namespace weir::admin {
namespace {

using telemetry::MetricKind;
using telemetry::Sample;

constexpr std::string_view kBypass = "bypass_";

bool is_bypass(std::string_view name) { return name.substr(0, kBypass.size()) == kBypass; }

}  // namespace

void add_bpf_metrics(telemetry::Metrics& metrics, std::function<base::Result<BpfCounters>()> counters) {
  metrics.add_family("weir_bypass_total", "Connections of enrolled pods that went the plain way, by reason",
                     MetricKind::counter, [counters] {
                       std::vector<Sample> samples;
                       const auto values = counters();
                       for (size_t i = 0; values.ok() && i < admin_api::kBpfStats.size(); ++i) {
                         const std::string_view name = admin_api::kBpfStats[i].name;
                         if (!is_bypass(name)) continue;
                         samples.push_back({{{"reason", std::string(name.substr(kBypass.size()))}},
                                            static_cast<double>(values.value()[i])});
                       }
                       return samples;
                     });
  for (size_t i = 0; i < admin_api::kBpfStats.size(); ++i) {
    const admin_api::BpfStat& stat = admin_api::kBpfStats[i];
    if (is_bypass(stat.name)) continue;
    metrics.add_family("weir_bpf_" + std::string(stat.name) + "_total", "BPF: " + std::string(stat.help),
                       MetricKind::counter, [counters, i] {
                         const auto values = counters();
                         if (!values) return std::vector<Sample>{};
                         return std::vector<Sample>{{{}, static_cast<double>(values.value()[i])}};
                       });
  }
}

}  // namespace weir::admin
