#include "telemetry/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>

#include "telemetry/istio_metrics.h"

namespace weir::telemetry {
namespace {

// The imbalance is that of the last one to two of these: long enough for shares to even out, short
// enough that an endpoint which joined an hour ago is judged by what it gets now.
constexpr auto kImbalanceWindow = std::chrono::seconds(60);

prometheus::MetricFamily family_of(const std::string& name, const std::string& help, MetricKind kind,
                                   const std::vector<Sample>& samples) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = kind == MetricKind::counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  for (const Sample& sample : samples) {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    for (const auto& [name_of_label, value] : sample.labels) metric.label.push_back({name_of_label, value});
    (kind == MetricKind::counter ? metric.counter.value : metric.gauge.value) = sample.value;
  }
  return family;
}

std::vector<Sample> endpoint_samples(const Totals& totals, bool failures) {
  std::vector<Sample> samples;
  for (const auto& [labels, sums] : totals.endpoints) {
    samples.push_back({{{"cluster", labels.cluster},
                        {"destination_service_name", sums.service_name},
                        {"destination_service_namespace", sums.service_namespace},
                        {"endpoint", labels.address.to_string()},
                        {"pod", sums.pod}},
                       static_cast<double>(failures ? sums.failures : sums.rpcs)});
  }
  return samples;
}

std::vector<Sample> misdeclared_samples(const Totals& totals) {
  std::vector<Sample> samples;
  for (const auto& [labels, connections] : totals.misdeclared) {
    samples.push_back({{{"destination_service_name", labels.service_name},
                        {"destination_service_namespace", labels.service_namespace},
                        {"destination_port", labels.port}},
                       static_cast<double>(connections)});
  }
  return samples;
}

}  // namespace

Metrics::Metrics(std::string cluster) : cluster_(std::move(cluster)) {}
Metrics::~Metrics() = default;

void Metrics::watch(const Recorder& recorder) { recorders_.push_back(&recorder); }

void Metrics::watch(const AccessLog& log) {
  add("weir_access_log_lines_total", "Access log lines written", MetricKind::counter,
      [&log] { return static_cast<double>(log.written()); });
  add("weir_access_log_dropped_total", "Access log lines lost because the queue was full or the file failed",
      MetricKind::counter, [&log] { return static_cast<double>(log.dropped()); });
}

void Metrics::add(std::string name, std::string help, MetricKind kind, std::function<double()> value) {
  add_family(std::move(name), std::move(help), kind, [value = std::move(value)] {
    return std::vector<Sample>{{{}, value()}};
  });
}

void Metrics::add_family(std::string name, std::string help, MetricKind kind,
                         std::function<std::vector<Sample>()> samples) {
  families_.push_back({std::move(name), std::move(help), kind, std::move(samples)});
}

void Metrics::use_snapshot(std::function<std::shared_ptr<const config::Snapshot>()> snapshot) {
  snapshot_ = std::move(snapshot);
}

// Max over mean of the RPCs per endpoint, over the endpoints that the configuration has now.
std::vector<Sample> Metrics::imbalance(const Totals& totals, base::Instant now) const {
  struct Counted {
    std::map<base::SocketAddress, uint64_t> rpcs;
    std::string service_name, service_namespace;
  };
  std::map<std::string, Counted> clusters;
  for (const auto& [labels, sums] : totals.endpoints) {
    const auto before = older_.rpcs.find(labels);
    const uint64_t base = before == older_.rpcs.end() ? 0 : std::min(before->second, sums.rpcs);
    Counted& counted = clusters[labels.cluster];
    counted.rpcs[labels.address] = sums.rpcs - base;
    counted.service_name = sums.service_name;
    counted.service_namespace = sums.service_namespace;
  }
  if (const auto snapshot = snapshot_ ? snapshot_() : nullptr) {
    for (const auto& service : snapshot->services) {
      for (const auto& port : service->ports) {
        port.for_each_cluster([&](const std::shared_ptr<const config::Cluster>& cluster) {
          const auto found = clusters.find(cluster->name);
          if (found == clusters.end()) return;
          std::map<base::SocketAddress, uint64_t> current;
          for (const auto& endpoint : cluster->endpoints) current[endpoint.address] = 0;
          for (auto& [address, rpcs] : current) {
            if (const auto n = found->second.rpcs.find(address); n != found->second.rpcs.end()) rpcs = n->second;
          }
          found->second.rpcs = std::move(current);
        });
      }
    }
  }
  std::vector<Sample> samples;
  for (const auto& [name, counted] : clusters) {
    uint64_t sum = 0, most = 0;
    for (const auto& [address, rpcs] : counted.rpcs) {
      sum += rpcs;
      most = std::max(most, rpcs);
    }
    if (sum == 0) continue;  // nothing was asked: neither even nor uneven
    samples.push_back(
        {{{"cluster", name},
          {"destination_service_name", counted.service_name},
          {"destination_service_namespace", counted.service_namespace}},
         static_cast<double>(most) * static_cast<double>(counted.rpcs.size()) / static_cast<double>(sum)});
  }
  if (now - newer_.at >= kImbalanceWindow) {
    older_ = std::exchange(newer_, {now, {}});
    for (const auto& [labels, sums] : totals.endpoints) newer_.rpcs[labels] = sums.rpcs;
  }
  return samples;
}

Totals Metrics::totals() const {
  Totals totals;
  for (const Recorder* recorder : recorders_) recorder->collect(totals);
  return totals;
}

std::map<ServicePortLabels, uint64_t> Metrics::misdeclared() const { return totals().misdeclared; }

std::string Metrics::exposition() const { return exposition(base::MonotonicClock::now()); }

std::string Metrics::exposition(base::Instant now) const {
  std::lock_guard lock(mutex_);
  const Totals totals = this->totals();
  std::vector<prometheus::MetricFamily> families;
  append_istio_metrics(totals, cluster_, families);
  families.push_back(family_of("weir_endpoint_rpcs_total", "RPCs sent to an endpoint", MetricKind::counter,
                               endpoint_samples(totals, false)));
  families.push_back(family_of("weir_endpoint_failed_rpcs_total",
                               "RPCs sent to an endpoint that failed or carry a flag", MetricKind::counter,
                               endpoint_samples(totals, true)));
  families.push_back(family_of("weir_endpoint_imbalance",
                               "RPCs of the busiest endpoint over the mean of all, of the last minute or two",
                               MetricKind::gauge, imbalance(totals, now)));
  families.push_back(family_of("weir_misdeclared_connections_total",
                               "Connections to a port that declares HTTP/2 (grpc, http2) that were something else, and "
                               "passed as TCP",
                               MetricKind::counter, misdeclared_samples(totals)));
  for (const Family& family : families_) {
    families.push_back(family_of(family.name, family.help, family.kind, family.samples()));
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace weir::telemetry
