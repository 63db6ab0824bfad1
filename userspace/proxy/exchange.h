// Exchange: one RPC, from the request's head to the last byte of the response.
//
//   begin -> on_request -> pick an endpoint -> lease a stream -> send -> relay -> finish
//                              ^------- an attempt failed: exchange_attempts.cpp
//
// It knows http/ and not HTTP/2. It holds two streams, `down_` towards the application and
// `up_` towards the endpoint, and gives window back on one side only when bytes have left on the
// other: that is all the backpressure there is. Exchanges are recycled: begin() resets every field.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "grpc/message.h"
#include "http/stream.h"
#include "http2/send_queue.h"
#include "io/timer_wheel.h"
#include "proxy/local_reply.h"
#include "proxy/pool.h"
#include "proxy/slab.h"
#include "routing/retry.h"
#include "telemetry/rpc.h"

namespace weir::proxy {

class Downstream;
class SnapshotUse;

class Exchange final : public Slabbed, private Waiter {
 public:
  explicit Exchange(Worker& worker);

  void begin(Downstream& downstream, http::Stream& stream);
  // The drain limit is reached: the RPC ends with status 14. Nothing happens if none runs.
  void abandon();
  http::StreamEvents& downstream_events() { return from_downstream_; }

 private:
  struct FromDownstream final : http::StreamEvents {
    explicit FromDownstream(Exchange& owner) : exchange(owner) {}
    void on_headers(http::Headers& headers, bool end_stream) override { exchange.on_request(headers, end_stream); }
    void on_data(base::Slice data, bool end) override { exchange.on_request_data(std::move(data), end); }
    void on_trailers(http::Headers& trailers) override { exchange.on_request_trailers(trailers); }
    void on_reset(const http::Reset& reset) override { exchange.on_downstream_reset(reset); }
    void on_sent(size_t bytes) override { exchange.on_response_sent(bytes); }
    Exchange& exchange;
  };
  struct FromUpstream final : http::StreamEvents {
    explicit FromUpstream(Exchange& owner) : exchange(owner) {}
    void on_headers(http::Headers& headers, bool end_stream) override { exchange.on_response(headers, end_stream); }
    void on_data(base::Slice data, bool end) override { exchange.on_response_data(std::move(data), end); }
    void on_trailers(http::Headers& trailers) override { exchange.on_response_trailers(trailers); }
    void on_reset(const http::Reset& reset) override { exchange.on_upstream_reset(reset); }
    void on_sent(size_t bytes) override { exchange.on_request_sent(bytes); }
    Exchange& exchange;
  };

  // What happens when the timer step_ expires.
  enum class Step : uint8_t {
    none,
    try_timeout,  // the attempt may take no longer
    backoff,      // the next attempt begins
    hold_back,    // the response's head, in held_head_, goes to the application
  };
  void start_step(Step step, base::Duration after);
  void cancel_step();
  void next_step(base::Instant now);

  // In the order in which they happen.
  void on_request(http::Headers& headers, bool end_stream);
  void route_request();
  void start_deadline();
  // exchange_attempts.cpp.
  void try_endpoint();
  void no_endpoint_left();
  void overflow(std::string_view message);
  void start_try_timer();
  void on_ready(Upstream& upstream) override;
  void on_failed(const ConnectFailure& failure) override;
  void send_request(Upstream& upstream);
  void send_request_data(const base::Slice& data, bool end_stream);
  void on_request_data(base::Slice data, bool end_stream);
  void on_request_trailers(http::Headers& trailers);
  void on_request_sent(size_t bytes);
  void request_bytes_left(size_t bytes);

  void on_response(http::Headers& headers, bool end_stream);
  void begin_response(http::Headers& headers, bool end_stream);
  void on_response_data(base::Slice data, bool end_stream);
  void on_response_trailers(http::Headers& trailers);
  void on_response_sent(size_t bytes);
  void response_complete();

  void on_downstream_reset(const http::Reset& reset);
  void on_upstream_reset(const http::Reset& reset);
  void deadline_passed(base::Instant now);
  void idle_passed(base::Instant now);

  // exchange_attempts.cpp: nothing has gone to the application yet, and the request is here to be sent again.
  bool may_retry() const { return replayable_ && !response_started_ && retry_.possible(); }
  // An attempt has ended so. True: another one follows. `fields`: the response's last header section, or null.
  bool retry(const routing::AttemptEnd& end, const http::Headers* fields);
  // Whether the response's head waits for what follows it.
  bool hold_back(http::Headers& headers);
  void stop_holding_back();
  std::span<const clusters::EndpointState* const> tried() const { return {tried_.data(), tried_count_}; }
  // Lets all endpoints be picked that may be by now.
  void open_cluster_again();

  // Ends the RPC towards the application: Trailers-Only, or trailers if the response has begun.
  void reply(const LocalReply& local_reply);
  void drop_attempt(uint32_t error_code);
  // For outlier detection: how the attempt under way has ended.
  void count_attempt(int http_status, int grpc_status = -1);
  void leave_endpoint();
  void describe_request();
  void finish();
  // A body beyond the cap is not sent again, nor what goes beyond the worker's.
  void limit_kept();
  // Something has happened: tells the application's connection what waits in the agent for this RPC now, and the
  // worker what is kept for another attempt.
  void account();
  void account_kept();
  // `bytes`, as they are kept if they can't go on at once.
  base::Slice keepable(base::Slice bytes) const;

  bool request_ended() const { return request_ended_; }
  void note_status(const http::Headers& fields);
  int grpc_status(const http::Headers& fields) const;

  Worker& worker_;
  FromDownstream from_downstream_{*this};
  FromUpstream from_upstream_{*this};
  Downstream* downstream_ = nullptr;
  http::Stream* down_ = nullptr;
  http::Stream* up_ = nullptr;
  SnapshotUse* snapshot_ = nullptr;

  // The request, kept as long as it may have to be sent again.
  http::Headers request_;
  http::Headers request_trailers_;
  http2::SendQueue kept_;
  int64_t accounted_ = 0;
  size_t accounted_kept_ = 0;
  bool replayable_ = false;
  bool request_ended_ = false;
  bool has_request_trailers_ = false;
  size_t attempt_sent_ = 0;  // body bytes of this attempt that are on the wire
  size_t given_back_ = 0;    // body bytes whose window the application has back

  const config::Service* service_ = nullptr;
  const config::ServicePort* port_ = nullptr;
  const config::RouteRule* rule_ = nullptr;                // null: no VirtualService governs the service
  const config::RouteDestination* destination_ = nullptr;  // of rule_
  const config::Cluster* cluster_ = nullptr;
  ClusterPool* pool_ = nullptr;
  EndpointPool* endpoint_ = nullptr;  // of the current attempt; counted among its active requests
  std::array<const clusters::EndpointState*, 8> tried_{};
  size_t tried_count_ = 0;
  uint32_t refusals_ = 0;
  Step due_ = Step::none;
  bool retried_ = false;  // counts among the pool's retries
  routing::RetryState retry_;
  http::Headers held_head_;
  io::MemberTimer<Exchange, &Exchange::next_step> step_{*this};

  http::Headers reply_;
  bool admitted_ = false;  // the pod may have one more RPC
  bool active_ = false;    // between begin() and finish()
  bool response_started_ = false;
  bool response_ended_ = false;
  std::optional<base::Duration> timeout_;  // the client's grpc-timeout, capped by the rule's
  io::MemberTimer<Exchange, &Exchange::deadline_passed> deadline_{*this};
  base::Instant active_at_{};  // when something happened last
  io::MemberTimer<Exchange, &Exchange::idle_passed> idle_{*this};

  grpc::MessageCounter request_messages_, response_messages_;
  telemetry::Rpc record_;
  config::Endpoint endpoint_record_;
  std::string failure_;
};

}  // namespace weir::proxy
