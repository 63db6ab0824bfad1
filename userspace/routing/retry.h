// Whether an RPC's failed attempt is made again, and when (networking.istio.io HTTPRetry, Envoy's retry policies, gRFC
// A6). Pure: the caller says how an attempt ended and what time it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "config/routes.h"
#include "http/headers.h"

namespace weir::routing {

// How an attempt ended.
struct AttemptEnd {
  enum class How : uint8_t {
    response,           // with a status
    connection_failed,  // no endpoint could be reached
    refused,            // the endpoint did nothing with it (REFUSED_STREAM, GOAWAY)
    reset,              // the stream or its connection ended
    try_timeout,        // perTryTimeout passed
  };
  How how = How::response;
  int http_status = 0;        // of a response
  int grpc_status = -1;       // of a response; -1: none, or not known yet
  bool request_sent = false;  // at least its head has left
};

class RetryState {
 public:
  enum class Verdict : uint8_t { no, again, exhausted };  // exhausted: it would be, but all attempts are used up

  // `policy` outlives the state's use. `path` is the request's (":path"), as the client sent it.
  void begin(const config::RetryPolicy& policy, std::string_view path);
  const config::RetryPolicy& policy() const { return *policy_; }
  uint32_t made() const { return retries_; }
  // Some end that an attempt can still have would be followed by another one.
  bool possible() const { return policy_->conditions != 0 && retries_ < policy_->attempts; }
  Verdict judge(const AttemptEnd& end) const;
  // Uses up one of the attempts; returns how long to wait before it is made: what the endpoint asks for in
  // `fields` (grpc-retry-pushback-ms, in a response's last header section), else the policy's backoff with full
  // jitter. Nothing: the endpoint asks not to be called again.
  std::optional<base::Duration> next(const http::Headers* fields, uint64_t random);

 private:
  bool covers(const AttemptEnd& end) const;

  const config::RetryPolicy* policy_ = nullptr;
  uint32_t retries_ = 0;
  bool idempotent_ = true;  // may be made twice
};

}  // namespace weir::routing
