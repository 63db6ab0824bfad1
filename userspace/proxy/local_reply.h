// LocalReply: a response that weir makes itself, and the one place where a failure
// becomes an HTTP status and a gRPC status (semantics.md, "Local replies").
#pragma once

#include <optional>
#include <string_view>

#include "config/routes.h"
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
  // What a rule changes in the response's head, null: nothing. A content-type of its own (of a plain response) or a
  // grpc-status counts; the rest of the message's frame can't be changed.
  const config::HeaderOperations* operations = nullptr;
};

// The statuses that go with `flag`.
LocalReply local_reply(telemetry::Flag flag, std::string_view details, std::string_view message);

// The rule's directResponse, with what the rule changes in responses; a gRPC client is told by the status that stands
// for its HTTP status. Refers to the rule.
LocalReply direct_reply(const config::RouteRule& rule);

// A whole gRPC response in one header section (Trailers-Only).
void make_trailers_only(const LocalReply& reply, http::Headers& out);
// The trailers that end a gRPC response which had begun.
void make_trailers(const LocalReply& reply, http::Headers& out);
// The head of a plain HTTP response; its body is reply.message.
void make_plain_head(const LocalReply& reply, http::Headers& out);

}  // namespace weir::proxy
