// LocalReply: a response that weir makes itself, and the one place where a failure
// becomes an HTTP status and a gRPC status (semantics.md, "Local replies").
#pragma once

#include <string_view>

#include "grpc/status.h"
#include "http/headers.h"
#include "telemetry/rpc.h"

namespace weir::proxy {

struct LocalReply {
  telemetry::Flag flag;
  int http_status;
  grpc::Status grpc_status;
  std::string_view details;  // RESPONSE_CODE_DETAILS in the access log
  std::string_view message;  // for the application: grpc-message, or the body
};

// The statuses that go with `flag`.
LocalReply local_reply(telemetry::Flag flag, std::string_view details, std::string_view message);

// A whole gRPC response in one header section (Trailers-Only).
void make_trailers_only(const LocalReply& reply, http::Headers& out);
// The trailers that end a gRPC response which had begun.
void make_trailers(const LocalReply& reply, http::Headers& out);
// The head of a plain HTTP response; its body is reply.message.
void make_plain_head(const LocalReply& reply, http::Headers& out);

}  // namespace weir::proxy
