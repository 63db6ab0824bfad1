#include "telemetry/recorder.h"

#include <time.h>

#include <unordered_set>

namespace weir::telemetry {

struct Recorder::RpcSeries {
  const Source* source = nullptr;
  const Destination* destination = nullptr;
  int response_code = 0;
  int grpc_status = -1;
  uint32_t flags = 0;
  bool grpc = false;
  Histogram<1'000'000> duration;  // of nanoseconds, in milliseconds
  Histogram<1> request_bytes, response_bytes;
  Counter request_messages, response_messages;
  uint64_t count_at_drop = 0;  // the worker's: whether it was idle since
  uint64_t count() const { return duration.count(); }
};

struct Recorder::TcpSeries {
  const Source* source = nullptr;
  const Destination* destination = nullptr;
  uint32_t flags = 0;
  Histogram<1'000'000> duration;  // as above, of those that closed
  Counter opened, bytes_received, bytes_sent;
  uint64_t count_at_drop = 0;
  uint64_t count() const { return opened.read() + duration.count() + bytes_received.read() + bytes_sent.read(); }
};

struct Recorder::EndpointTally {
  EndpointLabels labels;
  std::string pod, service_name, service_namespace;
  Counter rpcs, failures;
  uint64_t count_at_drop = 0;
  uint64_t count() const { return rpcs.read(); }
};

namespace {

constexpr int kUnknownStatus = 2, kLastStatus = 16;

// What a backend makes up must not make series: codes outside HTTP's and gRPC's ranges are one each.
int known_code(int code) { return code >= 100 && code < 600 ? code : 0; }
int known_status(const Rpc& rpc) {
  if (!rpc.grpc || rpc.grpc_status < 0) return -1;
  return rpc.grpc_status <= kLastStatus ? rpc.grpc_status : kUnknownStatus;
}

uint64_t outcome_of(int code, int status, bool grpc, uint32_t flags) {
  return (static_cast<uint64_t>(flags) << 32) | (static_cast<uint64_t>(code & 0xFFFF) << 16) |
         (static_cast<uint64_t>(status + 1) << 1) | (grpc ? 1u : 0u);
}

uint64_t nanoseconds(base::Duration duration) {
  return duration.count() > 0 ? static_cast<uint64_t>(duration.count()) : 0;
}

base::Duration unix_offset() {
  timespec wall;
  clock_gettime(CLOCK_REALTIME, &wall);
  return std::chrono::seconds(wall.tv_sec) + base::Duration(wall.tv_nsec) -
         base::MonotonicClock::now().time_since_epoch();
}

Source other_source() { return {"other", "other", "other", "other", "other", "other"}; }
Destination other_destination() {
  return {"other", "other", "other", "other", "other", "other", "other", "other", "other"};
}

template <class Entry>
bool crowded(const PublishedList<Entry>& list) {
  return list.size() * 4 >= list.capacity() * 3;
}

template <class Entry>
void retain_busy(PublishedList<Entry>& list) {
  list.retain([](Entry& entry) { return std::exchange(entry.count_at_drop, entry.count()) != entry.count(); });
}

}  // namespace

// One place beyond the limit is for the series of what did not fit.
Recorder::Recorder(AccessLog& log, RecorderLimits limits)
    : log_(log),
      limits_(limits),
      scratch_(std::make_unique<LogRecord>()),
      other_source_(&*sources_.insert(other_source()).first),
      other_destination_(&*destinations_.insert(other_destination()).first),
      rpcs_(limits.series + 1),
      tcps_(limits.series + 1),
      tallies_(limits.endpoints) {}

Recorder::~Recorder() = default;

void Recorder::record(const Rpc& rpc) {
  const SourceEntry source = source_entry(rpc.source);
  const Route to = route(rpc.service, rpc.cluster, rpc.endpoint);
  RpcSeries& series = rpc_series(*source.labels, *to.labels, rpc);
  series.duration.record(nanoseconds(rpc.ended - rpc.started));
  series.request_bytes.record(rpc.bytes_received);
  series.response_bytes.record(rpc.bytes_sent);
  series.request_messages.add(rpc.request_messages);
  series.response_messages.add(rpc.response_messages);
  const bool bad = failed(rpc);
  if (to.tally) {
    to.tally->rpcs.add(1);
    if (bad) to.tally->failures.add(1);
  }
  log_if_wanted(rpc, source, bad);
}

void Recorder::opened(const TcpConnection& connection) { tcp_series(connection, {}).opened.add(1); }

void Recorder::progress(const TcpConnection& connection) { count_bytes(tcp_series(connection, {}), connection); }

void Recorder::record(const TcpConnection& connection) {
  TcpSeries& series = tcp_series(connection, connection.flags);
  series.duration.record(nanoseconds(connection.ended - connection.started));
  count_bytes(series, connection);
  log_if_wanted(connection, source_entry(connection.source), !connection.flags.empty());
}

void Recorder::count_bytes(TcpSeries& series, const TcpConnection& connection) {
  series.bytes_received.add(connection.bytes_received - connection.counted_received);
  series.bytes_sent.add(connection.bytes_sent - connection.counted_sent);
}

bool Recorder::wants(const SourceEntry& source, bool failed) const {
  const LogMode mode = source.log_mode.value_or(log_.mode());
  return mode == LogMode::all || (mode == LogMode::failed && failed);
}

bool Recorder::logs(const config::Pod& source, bool failed) { return wants(source_entry(&source), failed); }

template <class LoggedRecord>
void Recorder::log_if_wanted(const LoggedRecord& record, const SourceEntry& source, bool failed) {
  if (!wants(source, failed)) return;
  scratch_->fill(record, unix_offset());
  log_.push(scratch_);
}

Recorder::SourceEntry Recorder::source_entry(const config::Pod* pod) {
  if (const SourceEntry* known = by_pod_.find({pod})) return *known;
  SourceEntry entry{&*sources_.insert(source_of(pod)).first, std::nullopt};
  if (pod) entry.log_mode = log_.mode_of(pod->namespace_name);
  by_pod_.insert({pod}, entry);
  return entry;
}

Recorder::Route Recorder::route(const config::Service* service, const config::Cluster* cluster,
                                const config::Endpoint* endpoint) {
  const RouteKey key{service, cluster, endpoint ? endpoint->address : base::SocketAddress{}};
  if (const Route* known = by_route_.find(key)) return *known;
  Route entry{&*destinations_.insert(destination_of(service, cluster, endpoint)).first, nullptr};
  if (cluster && endpoint) entry.tally = tally(*cluster, *endpoint, *entry.labels);
  by_route_.insert(key, entry);
  return entry;
}

Recorder::EndpointTally* Recorder::tally(const config::Cluster& cluster, const config::Endpoint& endpoint,
                                         const Destination& to) {
  const auto [found, fresh] = tallies_index_.try_emplace({cluster.name, endpoint.address}, nullptr);
  if (!fresh) return found->second;
  if (tallies_.full()) {
    tallies_index_.erase(found);
    return nullptr;
  }
  auto entry = std::make_unique<EndpointTally>();
  entry->labels = {cluster.name, endpoint.address};
  entry->pod = endpoint.pod;
  entry->service_name = to.service_name;
  entry->service_namespace = to.service_namespace;
  return found->second = &tallies_.push(std::move(entry));
}

Recorder::RpcSeries& Recorder::rpc_series(const Source& source, const Destination& to, const Rpc& rpc) {
  const int code = known_code(rpc.response_code);
  const int status = known_status(rpc);
  const SeriesKey key{&source, &to, outcome_of(code, status, rpc.grpc, rpc.flags.bits())};
  if (RpcSeries* const* known = rpc_index_.find(key)) return **known;
  const SeriesKey other{other_source_, other_destination_, 0};
  const bool fits = rpcs_.size() < limits_.series;
  if (!fits) {
    if (RpcSeries* const* known = rpc_index_.find(other)) return **known;
  }
  auto series = std::make_unique<RpcSeries>();
  series->source = fits ? &source : other_source_;
  series->destination = fits ? &to : other_destination_;
  series->response_code = fits ? code : kOtherCode;
  series->grpc_status = fits ? status : -1;
  series->flags = fits ? rpc.flags.bits() : 0;
  series->grpc = fits && rpc.grpc;
  RpcSeries& added = rpcs_.push(std::move(series));
  rpc_index_.insert(fits ? key : other, &added);
  return added;
}

Recorder::TcpSeries& Recorder::tcp_series(const Source& source, const Destination& to, Flags flags) {
  const SeriesKey key{&source, &to, flags.bits()};
  if (TcpSeries* const* known = tcp_index_.find(key)) return **known;
  const SeriesKey other{other_source_, other_destination_, 0};
  const bool fits = tcps_.size() < limits_.series;
  if (!fits) {
    if (TcpSeries* const* known = tcp_index_.find(other)) return **known;
  }
  auto series = std::make_unique<TcpSeries>();
  series->source = fits ? &source : other_source_;
  series->destination = fits ? &to : other_destination_;
  series->flags = fits ? flags.bits() : 0;
  TcpSeries& added = tcps_.push(std::move(series));
  tcp_index_.insert(fits ? key : other, &added);
  return added;
}

Recorder::TcpSeries& Recorder::tcp_series(const TcpConnection& connection, Flags flags) {
  return tcp_series(*source_entry(connection.source).labels,
                    *route(connection.service, nullptr, connection.endpoint).labels, flags);
}

void Recorder::snapshot_changed() {
  by_pod_.clear();
  by_route_.clear();
  if (!crowded(rpcs_) && !crowded(tcps_) && !crowded(tallies_)) return;
  const base::Instant now = base::MonotonicClock::now();
  if (now - last_drop_ < limits_.idle) return;
  // A reader at work: the next change of configuration will do.
  if (std::unique_lock lock(reading_, std::try_to_lock); lock) {
    last_drop_ = now;
    drop_idle();
  }
}

// Series that end and come back later begin at zero, which Prometheus takes for a restart.
void Recorder::drop_idle() {
  retain_busy(rpcs_);
  retain_busy(tcps_);
  retain_busy(tallies_);

  rpc_index_.clear();
  tcp_index_.clear();
  tallies_index_.clear();
  std::unordered_set<const Source*> sources{other_source_};
  std::unordered_set<const Destination*> destinations{other_destination_};
  for (size_t i = 0; i < rpcs_.size(); ++i) {
    RpcSeries& s = rpcs_[i];
    const bool other = s.response_code == kOtherCode;
    const uint64_t outcome = other ? 0 : outcome_of(s.response_code, s.grpc_status, s.grpc, s.flags);
    rpc_index_.insert({s.source, s.destination, outcome}, &s);
    sources.insert(s.source);
    destinations.insert(s.destination);
  }
  for (size_t i = 0; i < tcps_.size(); ++i) {
    tcp_index_.insert({tcps_[i].source, tcps_[i].destination, tcps_[i].flags}, &tcps_[i]);
    sources.insert(tcps_[i].source);
    destinations.insert(tcps_[i].destination);
  }
  for (size_t i = 0; i < tallies_.size(); ++i) {
    tallies_index_.emplace(std::pair(tallies_[i].labels.cluster, tallies_[i].labels.address), &tallies_[i]);
  }
  std::erase_if(sources_, [&](const Source& s) { return !sources.contains(&s); });
  std::erase_if(destinations_, [&](const Destination& d) { return !destinations.contains(&d); });
}

void Recorder::collect(Totals& into) const {
  std::lock_guard lock(reading_);
  for (size_t i = 0, n = rpcs_.size(); i < n; ++i) {
    const RpcSeries& s = rpcs_[i];
    RpcTotals& t = into.rpcs[{*s.source, *s.destination, s.response_code, s.grpc_status, s.flags, s.grpc}];
    t.duration_ms.add(s.duration);
    t.request_bytes.add(s.request_bytes);
    t.response_bytes.add(s.response_bytes);
    t.request_messages += s.request_messages.read();
    t.response_messages += s.response_messages.read();
  }
  for (size_t i = 0, n = tcps_.size(); i < n; ++i) {
    const TcpSeries& s = tcps_[i];
    TcpTotals& t = into.tcps[{*s.source, *s.destination, s.flags}];
    t.duration_ms.add(s.duration);
    t.opened += s.opened.read();
    t.bytes_received += s.bytes_received.read();
    t.bytes_sent += s.bytes_sent.read();
  }
  for (size_t i = 0, n = tallies_.size(); i < n; ++i) {
    const EndpointTally& s = tallies_[i];
    EndpointTotals& t = into.endpoints[s.labels];
    t.pod = s.pod;
    t.service_name = s.service_name;
    t.service_namespace = s.service_namespace;
    t.rpcs += s.rpcs.read();
    t.failures += s.failures.read();
  }
  misdeclared_.collect(into.misdeclared);
}

}  // namespace weir::telemetry
