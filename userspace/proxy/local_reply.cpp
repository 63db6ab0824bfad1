#include "proxy/local_reply.h"

#include <charconv>
#include <string>

#include "grpc/message.h"

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
  out.add("grpc-status", grpc::number(reply.grpc_status));
  if (!reply.message.empty()) out.add("grpc-message", grpc::percent_encode(reply.message));
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
  return LocalReply{flag, http_status, grpc_status, details, message};
}

LocalReply direct_reply(int http_status, std::string_view body) {
  return LocalReply{std::nullopt, http_status, grpc::status_of_http(http_status), "direct_response", body};
}

void make_trailers_only(const LocalReply& reply, http::Headers& out) {
  out.clear();
  out.add(":status", "200");
  out.add("content-type", "application/grpc");
  add_grpc_fields(reply, out);
  add_overload(reply, out);
}

void make_trailers(const LocalReply& reply, http::Headers& out) {
  out.clear();
  add_grpc_fields(reply, out);
}

void make_plain_head(const LocalReply& reply, http::Headers& out) {
  out.clear();
  out.add(":status", Number(static_cast<size_t>(reply.http_status)).view());
  out.add("content-type", "text/plain");
  out.add("content-length", Number(reply.message.size()).view());
  add_overload(reply, out);
}

}  // namespace weir::proxy
