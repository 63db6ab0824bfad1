// LocalReply: a response that weir makes itself, and the one place where a failure
// becomes an HTTP status and a gRPC status (semantics.md, "Local replies").
#pragma once

#include <optional>
#include <string_view>

#include "grpc/status.h"
#include "http/headers.h"
#include "telemetry/rpc.h"

namespace weir::proxy {

struct LocalReply {
  std::optional<telemetry::Flag> flag;  // none: the configuration asked for the reply
  int http_status;
  grpc::Status grpc_status;
  std::string_view details;  // RESPONSE_CODE_DETAILS in the access log
  std::string_view message;  // for the application: grpc-message, or the body
};

// The statuses that go with `flag`.
LocalReply local_reply(telemetry::Flag flag, std::string_view details, std::string_view message);

// VirtualService directResponse; a gRPC client is told by the status that stands for `http_status`.
LocalReply direct_reply(int http_status, std::string_view body);

// A whole gRPC response in one header section (Trailers-Only).
void make_trailers_only(const LocalReply& reply, http::Headers& out);
// The trailers that end a gRPC response which had begun.
void make_trailers(const LocalReply& reply, http::Headers& out);
// The head of a plain HTTP response; its body is reply.message.
void make_plain_head(const LocalReply& reply, http::Headers& out);

}  // namespace weir::proxy
