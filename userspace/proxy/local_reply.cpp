#include "proxy/local_reply.h"

#include <charconv>
#include <string>

#include "grpc/message.h"
#include "routing/transform.h"

namespace weir::proxy {
namespace {

using telemetry::Flag;

class Number {
 public:
  explicit Number(size_t value) : end_(std::to_chars(text_, text_ + sizeof text_, value).ptr) {}
  std::string_view view() const { return {text_, static_cast<size_t>(end_ - text_)}; }

 private:
  char text_[24];
  char* end_;
};

// As Envoy marks what a limit of its own has turned away.
void add_overload(const LocalReply& reply, http::Headers& out) {
  if (reply.flag == Flag::UO) out.add("x-envoy-overloaded", "true");
}

void add_grpc_fields(const LocalReply& reply, http::Headers& out) {
  if (!out.find("grpc-status")) out.add("grpc-status", grpc::number(reply.grpc_status));
  if (!reply.message.empty()) out.set("grpc-message", grpc::percent_encode(reply.message));
}

// The status and what the rule adds; what follows replaces that where it must not be changed.
void begin_head(const LocalReply& reply, std::string_view status, http::Headers& out) {
  out.clear();
  out.add(":status", status);
  if (reply.operations) routing::apply(*reply.operations, out);
}

}  // namespace

LocalReply local_reply(Flag flag, std::string_view details, std::string_view message) {
  int http_status = 503;
  grpc::Status grpc_status = grpc::Status::unavailable;
  switch (flag) {
    case Flag::UT:
      http_status = 504;
      grpc_status = grpc::Status::deadline_exceeded;
      break;
    case Flag::SI:
      http_status = 408;
      grpc_status = grpc::Status::deadline_exceeded;
      break;
    case Flag::NR:
      http_status = 404;
      grpc_status = grpc::Status::unimplemented;
      break;
    case Flag::UPE:
      http_status = 502;
      break;
    default:
      break;
  }
  return {flag, http_status, grpc_status, details, message};
}

LocalReply direct_reply(const config::RouteRule& rule) {
  const config::DirectResponse& response = *rule.direct_response;
  return {std::nullopt,      response.status, grpc::status_of_http(response.status),
          "direct_response", response.body,   &rule.headers.response};
}

void make_trailers_only(const LocalReply& reply, http::Headers& out) {
  begin_head(reply, "200", out);
  out.remove("content-length");
  out.set("content-type", "application/grpc");
  add_grpc_fields(reply, out);
  add_overload(reply, out);
}

void make_trailers(const LocalReply& reply, http::Headers& out) {
  out.clear();
  add_grpc_fields(reply, out);
}

void make_plain_head(const LocalReply& reply, http::Headers& out) {
  begin_head(reply, Number(static_cast<size_t>(reply.http_status)).view(), out);
  if (!out.find("content-type")) out.add("content-type", "text/plain");
  out.set("content-length", Number(reply.message.size()).view());
  add_overload(reply, out);
}

}  // namespace weir::proxy
