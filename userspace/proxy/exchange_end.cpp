// How an RPC ends, well or not: 6 and 7 of the steps in exchange.cpp.
#include <utility>

#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/worker.h"

namespace weir::proxy {
namespace {

using telemetry::Flag;

// Memory for header fields that a returned exchange keeps.
constexpr size_t kKeptHeaders = 4096;

}  // namespace

// 6. What can go wrong.
void Exchange::on_downstream_reset(const http::Reset& reset) {
  down_ = nullptr;
  if (is_shed(reset)) {
    record_.flags.set(Flag::OM);
    record_.details = "overload";
  } else {
    record_.flags.set(reset.broken_by_peer() ? Flag::DPE : Flag::DC);
    record_.details = "downstream_remote_disconnect";
  }
  finish();
}

void Exchange::deadline_passed(base::Instant) {
  // The client's own patience says nothing about the endpoint.
  if (rule_ && rule_->timeout == timeout_ && !response_started_) count_attempt(504);
  reply(local_reply(Flag::UT, "response_timeout", "weir: deadline exceeded"));
}

// The timer is not moved by what happens on the RPC: when it expires it looks how long ago that was.
void Exchange::idle_passed(base::Instant now) {
  const base::Instant due = active_at_ + worker_.options().stream_idle_timeout;
  if (due > now) return worker_.reactor().timers().schedule(idle_, due);
  reply(local_reply(Flag::SI, "stream_idle_timeout", "weir: nothing has moved for the stream idle timeout"));
}

void Exchange::abandon() {
  if (!active_ || response_ended_) return;
  reply(local_reply(Flag::LR, "drain_limit_reached", "weir: the node's agent restarts and the drain limit is reached"));
}

void Exchange::reply(const LocalReply& local_reply) {
  stop_waiting();
  deadline_.cancel();
  idle_.cancel();
  cancel_step();
  drop_attempt(http::kCancel);
  if (local_reply.flag) record_.flags.set(*local_reply.flag);
  record_.details = local_reply.details;
  response_ended_ = true;
  if (record_.grpc) {
    if (response_started_) {
      make_trailers(local_reply, reply_);
      note_status(reply_);
      down_->send_trailers(reply_);
    } else {
      record_.response_code = 200;
      make_trailers_only(local_reply, reply_);
      note_status(reply_);
      down_->send_headers(reply_, true);
    }
  } else if (response_started_) {
    // A plain HTTP response can't say in its trailers that it is incomplete.
    down_->release(http::kInternalError);
    down_ = nullptr;
  } else {
    record_.response_code = local_reply.http_status;
    make_plain_head(local_reply, reply_);
    down_->send_headers(reply_, local_reply.message.empty());
    if (!local_reply.message.empty()) {
      const auto* text = reinterpret_cast<const uint8_t*>(local_reply.message.data());
      down_->send_data(base::Slice::copy_of({text, local_reply.message.size()}), true);
    }
  }
  if (!down_ || down_->all_sent()) return finish();
  account();
}

void Exchange::account() {
  active_at_ = worker_.reactor().now();
  account_kept();
  const size_t held = due_ == Step::hold_back ? held_head_.bytes() : 0;
  const auto now = static_cast<int64_t>(request_.bytes() + request_trailers_.bytes() + kept_.bytes() + held +
                                        (up_ ? up_->unsent() : 0) + (down_ ? down_->unsent() : 0));
  if (now == accounted_) return;
  downstream_->hold(now - accounted_);
  accounted_ = now;
}

void Exchange::account_kept() {
  worker_.replay_bytes() += kept_.bytes() - accounted_kept_;
  accounted_kept_ = kept_.bytes();
}

base::Slice Exchange::keepable(base::Slice bytes) const {
  return downstream_->source().must_copy() ? base::Slice::copy_of(bytes.bytes()) : std::move(bytes);
}

void Exchange::drop_attempt(uint32_t error_code) {
  if (up_) {
    up_->release(error_code);
    up_ = nullptr;
  }
  leave_endpoint();
}

void Exchange::count_attempt(int http_status, int grpc_status) {
  if (endpoint_) pool_->count_attempt(*endpoint_, clusters::counted_status(http_status, grpc_status));
}

void Exchange::leave_endpoint() {
  if (!endpoint_) return;
  endpoint_record_ = endpoint_->endpoint;
  record_.endpoint = &endpoint_record_;
  --endpoint_->active_requests;
  pool_->end_attempt();
  endpoint_ = nullptr;
}

// What only the access log is told.
void Exchange::describe_request() {
  record_.method = request_.get(":method");
  const bool rewritten = pool_ && rule_ && rule_->rewrite && rule_->rewrite->uri;  // a client may send the header too
  record_.path = request_.get(rewritten ? "x-envoy-original-path" : ":path");
  record_.authority = request_.get(":authority");
  record_.user_agent = request_.get("user-agent");
  record_.request_id = request_.get("x-request-id");
  record_.forwarded_for = request_.get("x-forwarded-for");
  record_.failure = failure_;
}

// 7. The one exit: what happened is recorded, everything is given back.
void Exchange::finish() {
  stop_waiting();
  deadline_.cancel();
  idle_.cancel();
  cancel_step();
  drop_attempt(http::kCancel);
  if (pool_) pool_->end_rpc(retried_);
  if (down_) down_->release(http::kNoError);
  down_ = nullptr;

  record_.ended = worker_.reactor().now();
  record_.request_messages = request_messages_.complete();
  record_.response_messages = response_messages_.complete();
  record_.source = &downstream_->source().pod();
  record_.service = service_;
  record_.cluster = cluster_;
  record_.downstream_local = downstream_->dialled().address;
  record_.downstream_remote = downstream_->dialled().client;
  if (worker_.recorder().logs(*record_.source, telemetry::failed(record_))) describe_request();
  worker_.recorder().record(record_);

  active_ = false;
  snapshot_->release();
  kept_.clear();
  account_kept();
  downstream_->hold(-std::exchange(accounted_, 0));
  downstream_->source().end_stream();
  for (http::Headers* headers : {&request_, &request_trailers_, &reply_, &held_head_})
    if (headers->bytes() > kKeptHeaders) *headers = {};
  --worker_.stats().active_rpcs;
  ++worker_.stats().rpcs_total;
  worker_.exchanges().give_back(*this);
}

}  // namespace weir::proxy
