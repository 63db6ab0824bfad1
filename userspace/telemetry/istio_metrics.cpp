#include "telemetry/istio_metrics.h"

#include <limits>

#include "telemetry/rpc.h"

namespace weir::telemetry {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using LabelPairs = std::vector<ClientMetric::Label>;

void append_ends(const Source& source, const Destination& to, const std::string& cluster, LabelPairs& out) {
  const std::string unknown = "unknown";
  out.insert(out.end(), {
                            {"reporter", "source"},
                            {"source_workload", source.workload},
                            {"source_canonical_service", source.canonical_service},
                            {"source_canonical_revision", source.canonical_revision},
                            {"source_workload_namespace", source.namespace_name},
                            {"source_principal", unknown},
                            {"source_app", source.app},
                            {"source_version", source.version},
                            {"source_cluster", cluster},
                            {"destination_workload", to.workload},
                            {"destination_workload_namespace", to.workload_namespace},
                            {"destination_principal", unknown},
                            {"destination_app", to.app},
                            {"destination_version", to.version},
                            {"destination_service", to.service},
                            {"destination_canonical_service", to.canonical_service},
                            {"destination_canonical_revision", to.canonical_revision},
                            {"destination_service_name", to.service_name},
                            {"destination_service_namespace", to.service_namespace},
                            {"destination_cluster", cluster},
                        });
}

LabelPairs labels_of(const RpcLabels& series, const std::string& cluster) {
  LabelPairs labels;
  append_ends(series.source, series.destination, cluster, labels);
  const std::string code = series.response_code == kOtherCode ? "other" : std::to_string(series.response_code);
  labels.push_back({"request_protocol", series.grpc ? "grpc" : "http"});
  labels.push_back({"response_code", code});
  labels.push_back({"grpc_response_status", series.grpc_status < 0 ? "" : std::to_string(series.grpc_status)});
  labels.push_back({"response_flags", Flags(series.flags).to_string()});
  labels.push_back({"connection_security_policy", "unknown"});
  return labels;
}

LabelPairs labels_of(const TcpLabels& series, const std::string& cluster) {
  LabelPairs labels;
  append_ends(series.source, series.destination, cluster, labels);
  labels.push_back({"request_protocol", "tcp"});
  labels.push_back({"response_flags", Flags(series.flags).to_string()});
  labels.push_back({"connection_security_policy", "unknown"});
  return labels;
}

class FamilyOf {
 public:
  FamilyOf(const char* name, const char* help, MetricType type) {
    family_.name = name;
    family_.help = help;
    family_.type = type;
  }
  void counter(const LabelPairs& labels, uint64_t value) {
    ClientMetric& metric = family_.metric.emplace_back();
    metric.label = labels;
    metric.counter.value = static_cast<double>(value);
  }
  void histogram(const LabelPairs& labels, const HistogramTotals& totals) {
    ClientMetric& metric = family_.metric.emplace_back();
    metric.label = labels;
    metric.histogram.sample_sum = totals.sum;
    uint64_t cumulative = 0;
    for (size_t i = 0; i < totals.buckets.size(); ++i) {
      cumulative += totals.buckets[i];
      const double bound = i < kBuckets.size() ? kBuckets[i] : std::numeric_limits<double>::infinity();
      metric.histogram.bucket.push_back({cumulative, bound});
    }
    metric.histogram.sample_count = cumulative;
  }
  void append_to(std::vector<MetricFamily>& out) {
    if (!family_.metric.empty()) out.push_back(std::move(family_));
  }

 private:
  MetricFamily family_;
};

void append_rpcs(const Totals& totals, const std::string& cluster, std::vector<MetricFamily>& out) {
  FamilyOf requests("istio_requests_total", "Requests (RPCs), by source, destination and outcome", MetricType::Counter);
  FamilyOf duration("istio_request_duration_milliseconds", "Time from a request's headers to its last byte",
                    MetricType::Histogram);
  FamilyOf request_bytes("istio_request_bytes", "Size of request bodies", MetricType::Histogram);
  FamilyOf response_bytes("istio_response_bytes", "Size of response bodies", MetricType::Histogram);
  FamilyOf request_messages("istio_request_messages_total", "gRPC messages from clients", MetricType::Counter);
  FamilyOf response_messages("istio_response_messages_total", "gRPC messages to clients", MetricType::Counter);
  for (const auto& [series, sums] : totals.rpcs) {
    const LabelPairs labels = labels_of(series, cluster);
    requests.counter(labels, sums.duration_ms.count());
    duration.histogram(labels, sums.duration_ms);
    request_bytes.histogram(labels, sums.request_bytes);
    response_bytes.histogram(labels, sums.response_bytes);
    if (!series.grpc) continue;
    request_messages.counter(labels, sums.request_messages);
    response_messages.counter(labels, sums.response_messages);
  }
  for (FamilyOf* family :
       {&requests, &duration, &request_bytes, &response_bytes, &request_messages, &response_messages}) {
    family->append_to(out);
  }
}

void append_tcp(const Totals& totals, const std::string& cluster, std::vector<MetricFamily>& out) {
  FamilyOf opened("istio_tcp_connections_opened_total", "TCP connections that were relayed", MetricType::Counter);
  FamilyOf closed("istio_tcp_connections_closed_total", "Relayed TCP connections that ended", MetricType::Counter);
  FamilyOf duration("weir_tcp_connection_duration_milliseconds",
                    "Time from accepting a relayed TCP connection to its end", MetricType::Histogram);
  FamilyOf sent("istio_tcp_sent_bytes_total", "Bytes to clients on relayed TCP connections", MetricType::Counter);
  FamilyOf received("istio_tcp_received_bytes_total", "Bytes from clients on relayed TCP connections",
                    MetricType::Counter);
  for (const auto& [series, sums] : totals.tcps) {
    const LabelPairs labels = labels_of(series, cluster);
    if (sums.opened > 0) opened.counter(labels, sums.opened);
    if (const uint64_t ended = sums.duration_ms.count(); ended > 0) {
      closed.counter(labels, ended);
      duration.histogram(labels, sums.duration_ms);
    }
    // Those that last are counted without flags.
    sent.counter(labels, sums.bytes_sent);
    received.counter(labels, sums.bytes_received);
  }
  for (FamilyOf* family : {&opened, &closed, &duration, &sent, &received}) family->append_to(out);
}

}  // namespace

void append_istio_metrics(const Totals& totals, const std::string& cluster, std::vector<MetricFamily>& out) {
  append_rpcs(totals, cluster, out);
  append_tcp(totals, cluster, out);
}

}  // namespace weir::telemetry
