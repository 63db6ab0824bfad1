#include "telemetry/log_record.h"

#include <time.h>

#include <charconv>
#include <cstdio>

#include "telemetry/escape.h"

namespace weir::telemetry {
namespace {

// Envoy's %GRPC_STATUS%.
constexpr std::array<const char*, 17> kGrpcNames = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"};

// Longer texts are cut: a request's headers may be large, a line may not.
constexpr size_t kLongestText = 1024;
constexpr size_t kUsualSize = 512;  // of all texts of a record

int64_t milliseconds(base::Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

void append_number(std::string& out, int64_t value) {
  char text[24];
  out.append(text, std::to_chars(text, text + sizeof text, value).ptr);
}

void append_time(std::string& out, base::Duration since_epoch) {
  const int64_t ms = milliseconds(since_epoch);
  const auto seconds = static_cast<time_t>(ms / 1000);
  tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  const size_t size = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  out.append(text, size);
  std::snprintf(text, sizeof text, ".%03dZ", static_cast<int>(ms % 1000));
  out += text;
}

std::string grpc_name(int status) {
  if (status >= 0 && static_cast<size_t>(status) < kGrpcNames.size()) return kGrpcNames[static_cast<size_t>(status)];
  return std::to_string(status);
}

std::string_view or_dash(std::string_view value) { return value.empty() ? std::string_view("-") : value; }

// The fields of a text line: separated by blanks, absent ones "-".
class TextLine {
 public:
  explicit TextLine(std::string& out) : out_(out) {}
  void word(std::string_view value) {
    blank();
    append_escaped(out_, or_dash(value));
  }
  void quoted(std::string_view value) {
    blank();
    out_ += '"';
    append_escaped(out_, or_dash(value));
    out_ += '"';
  }
  void number(int64_t value) {
    blank();
    append_number(out_, value);
  }
  void address(const base::SocketAddress& address) { word(address.port == 0 ? std::string() : address.to_string()); }
  void quoted_address(const base::SocketAddress& address) {
    quoted(address.port == 0 ? std::string() : address.to_string());
  }

 private:
  void blank() { out_ += ' '; }
  std::string& out_;
};

// The members of a JSON object; absent ones are null, as Envoy writes them.
class JsonLine {
 public:
  explicit JsonLine(std::string& out) : out_(out) {}
  void text(const char* key, std::string_view value) {
    begin(key);
    if (value.empty()) {
      out_ += "null";
    } else {
      append_json_string(out_, value);
    }
  }
  void number(const char* key, int64_t value) {
    begin(key);
    append_number(out_, value);
  }
  void null(const char* key) {
    begin(key);
    out_ += "null";
  }
  void address(const char* key, const base::SocketAddress& address) {
    text(key, address.port == 0 ? std::string() : address.to_string());
  }
  void end() { out_ += '}'; }

 private:
  void begin(const char* key) {
    out_ += first_ ? "{\"" : ",\"";
    first_ = false;
    out_ += key;
    out_ += "\":";
  }
  std::string& out_;
  bool first_ = true;
};

}  // namespace

std::string_view LogRecord::text(Text which) const {
  return std::string_view(bytes_).substr(ends_[which], ends_[which + 1u] - ends_[which]);
}

// Texts are set in the order of the enum.
void LogRecord::set(Text which, std::string_view value) {
  bytes_.append(value.substr(0, kLongestText));
  ends_[which + 1u] = static_cast<uint32_t>(bytes_.size());
}

void LogRecord::fill_common(const config::Pod* source, const config::Service* dialled, const config::Endpoint* endpoint,
                            base::Instant started, base::Instant ended, base::Duration unix_offset) {
  set(source_namespace, source ? std::string_view(source->namespace_name) : std::string_view());
  set(source_pod, source ? std::string_view(source->name) : std::string_view());
  set(destination_pod, endpoint ? std::string_view(endpoint->pod) : std::string_view());
  set(service, dialled ? std::string_view(dialled->fqdn) : std::string_view());
  upstream_host_ = endpoint ? endpoint->address : base::SocketAddress{};
  started_ = started.time_since_epoch() + unix_offset;
  duration_ms_ = milliseconds(ended - started);
}

void LogRecord::fill(const Rpc& rpc, base::Duration unix_offset) {
  bytes_.clear();
  bytes_.reserve(kUsualSize);
  set(method, rpc.method);
  set(path, rpc.path);
  set(authority, rpc.authority);
  set(user_agent, rpc.user_agent);
  set(request_id, rpc.request_id);
  set(forwarded_for, rpc.forwarded_for);
  set(details, rpc.details);
  set(failure, rpc.failure);
  set(cluster, rpc.cluster ? std::string_view(rpc.cluster->name) : std::string_view());
  fill_common(rpc.source, rpc.service, rpc.endpoint, rpc.started, rpc.ended, unix_offset);
  upstream_ms_ = rpc.upstream_headers == base::Instant{} ? -1 : milliseconds(rpc.upstream_headers - rpc.started);
  response_code_ = rpc.response_code;
  grpc_status_ = rpc.grpc ? rpc.grpc_status : -1;
  tcp_ = false;
  failed_ = telemetry::failed(rpc);
  flags_ = rpc.flags;
  bytes_received_ = rpc.bytes_received;
  bytes_sent_ = rpc.bytes_sent;
  attempts_ = rpc.attempts;
  upstream_local_ = rpc.upstream_local;
  downstream_local_ = rpc.downstream_local;
  downstream_remote_ = rpc.downstream_remote;
}

void LogRecord::fill(const TcpConnection& connection, base::Duration unix_offset) {
  bytes_.clear();
  bytes_.reserve(kUsualSize);
  for (int i = method; i < failure; ++i) set(static_cast<Text>(i), {});
  set(failure, connection.failure);
  set(cluster, connection.cluster ? std::string_view(connection.cluster->name) : std::string_view());
  fill_common(connection.source, connection.service, connection.endpoint, connection.started, connection.ended,
              unix_offset);
  upstream_ms_ = -1;
  response_code_ = 0;
  grpc_status_ = -1;
  tcp_ = true;
  failed_ = !connection.flags.empty();
  flags_ = connection.flags;
  bytes_received_ = connection.bytes_received;
  bytes_sent_ = connection.bytes_sent;
  attempts_ = 0;
  upstream_local_ = connection.upstream_local;
  downstream_local_ = connection.downstream_local;
  downstream_remote_ = connection.downstream_remote;
}

void LogRecord::append_text(std::string& out) const {
  out += '[';
  append_time(out, started_);
  out += "] \"";
  append_escaped(out, or_dash(text(method)));
  out += ' ';
  append_escaped(out, or_dash(text(path)));
  out += tcp_ ? " -\"" : " HTTP/2\"";
  TextLine line(out);
  line.number(response_code_);
  line.word(flags_.to_string());
  line.word(text(details));
  line.word({});  // CONNECTION_TERMINATION_DETAILS
  line.quoted(text(failure));
  line.number(static_cast<int64_t>(bytes_received_));
  line.number(static_cast<int64_t>(bytes_sent_));
  line.number(duration_ms_);
  upstream_ms_ < 0 ? line.word({}) : line.number(upstream_ms_);
  line.quoted(text(forwarded_for));
  line.quoted(text(user_agent));
  line.quoted(text(request_id));
  line.quoted(text(authority));
  line.quoted_address(upstream_host_);
  line.word(text(cluster));
  line.address(upstream_local_);
  line.address(downstream_local_);
  line.address(downstream_remote_);
  line.word({});  // REQUESTED_SERVER_NAME
  line.word({});  // ROUTE_NAME
}

void LogRecord::append_json(std::string& out) const {
  JsonLine line(out);
  std::string time;
  append_time(time, started_);
  line.text("start_time", time);
  line.text("method", text(method));
  line.text("path", text(path));
  line.text("protocol", tcp_ ? "" : "HTTP/2");
  line.number("response_code", response_code_);
  line.text("response_flags", flags_.to_string());
  line.text("response_code_details", text(details));
  line.null("connection_termination_details");
  line.text("upstream_transport_failure_reason", text(failure));
  line.number("bytes_received", static_cast<int64_t>(bytes_received_));
  line.number("bytes_sent", static_cast<int64_t>(bytes_sent_));
  line.number("duration", duration_ms_);
  line.text("upstream_service_time", upstream_ms_ < 0 ? std::string() : std::to_string(upstream_ms_));
  line.text("x_forwarded_for", text(forwarded_for));
  line.text("user_agent", text(user_agent));
  line.text("request_id", text(request_id));
  line.text("authority", text(authority));
  line.address("upstream_host", upstream_host_);
  line.text("upstream_cluster", text(cluster));
  line.address("upstream_local_address", upstream_local_);
  line.address("downstream_local_address", downstream_local_);
  line.address("downstream_remote_address", downstream_remote_);
  line.null("requested_server_name");
  line.null("route_name");
  if (grpc_status_ >= 0) {
    line.text("grpc_status", grpc_name(grpc_status_));
    line.number("grpc_status_number", grpc_status_);
  } else {
    line.null("grpc_status");
    line.null("grpc_status_number");
  }
  line.text("source_namespace", text(source_namespace));
  line.text("source_pod", text(source_pod));
  line.text("destination_service", text(service));
  line.text("destination_pod", text(destination_pod));
  line.number("upstream_request_attempt_count", attempts_);
  line.end();
}

}  // namespace weir::telemetry
