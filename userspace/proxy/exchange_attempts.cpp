// The attempts of an RPC: which endpoint is next, what follows a failure, and how long an attempt may take.
#include <utility>

#include "proxy/downstream.h"
#include "proxy/exchange.h"
#include "proxy/worker.h"

namespace weir::proxy {
namespace {

using routing::AttemptEnd;
using telemetry::Flag;

// How long a response's head waits for trailers, or for anything else that decides.
constexpr auto kHoldBack = std::chrono::milliseconds(10);
// How often a request that an endpoint has not begun to process is sent again without a word of the retry policy: once
// if the endpoint refused it (gRFC A6, transparent retries), more often if it never left.
constexpr uint32_t kMaxRefusals = 1, kMaxUnsent = 8;

}  // namespace

void Exchange::try_endpoint() {
  cancel_step();
  EndpointPool* picked = tried_count_ < tried_.size()
                             ? pool_->pick(downstream_->dialled().address.ip, tried(), worker_.reactor().now())
                             : nullptr;
  if (!picked) return no_endpoint_left();
  endpoint_ = picked;
  pool_->begin_attempt();
  ++endpoint_->active_requests;
  ++endpoint_->requests;
  ++record_.attempts;
  tried_[tried_count_++] = picked;
  start_try_timer();
  if (Upstream* upstream = picked->ready()) return send_request(*upstream);
  if (!pool_->may_wait())
    return overflow("weir: as many calls as http1MaxPendingRequests allows wait for a connection");
  picked->wait_for(*this, cluster_->connection_pool.connect_timeout);
}

void Exchange::no_endpoint_left() {
  if (tried_count_ == 0) return reply(local_reply(Flag::UH, "no_healthy_upstream", "weir: no healthy endpoint"));
  if (!record_.flags.has(Flag::OM) && retry({AttemptEnd::How::connection_failed}, nullptr)) return;
  const std::string message = "weir: no endpoint could be reached: " + failure_;
  if (record_.flags.has(Flag::OM)) return reply(local_reply(Flag::OM, "overload", message));
  const Flag flag = record_.flags.has(Flag::UPE) ? Flag::UPE : Flag::UF;
  reply(local_reply(flag, "upstream_reset_before_response_started{connection_failure}", message));
}

void Exchange::overflow(std::string_view message) {
  ++worker_.stats().pool_overflows;
  reply(local_reply(Flag::UO, "upstream_reset_before_response_started{overflow}", message));
}

void Exchange::on_ready(Upstream& upstream) { send_request(upstream); }

void Exchange::on_failed(const ConnectFailure& failure) {
  failure_ = failure.reason;
  if (!failure.no_socket && !failure.left) count_attempt(503);
  if (failure.broke_protocol) record_.flags.set(Flag::UPE);
  if (failure.no_socket) record_.flags.set(Flag::OM);
  leave_endpoint();
  try_endpoint();
}

void Exchange::on_upstream_reset(const http::Reset& reset) {
  up_ = nullptr;
  if (response_ended_) return;
  // A server counts the deadline, too: grpc-go's resets the stream when it passes, which may be heard before the timer.
  const base::Instant now = worker_.reactor().now();
  if (timeout_ && now >= record_.started + *timeout_ && !is_shed(reset)) return deadline_passed(now);
  if (!is_shed(reset) && !reset.unprocessed) count_attempt(503);
  leave_endpoint();
  if (is_shed(reset))
    return reply(local_reply(Flag::OM, "overload", "weir: the pod holds too much of the agent's memory"));
  const bool by_connection = reset.origin == http::Reset::Origin::connection;
  AttemptEnd end{AttemptEnd::How::reset, 0, -1, !reset.unprocessed};
  if (reset.unprocessed && replayable_ && !response_started_) {
    failure_ = "refused by the endpoint";
    if (refusals_++ < (by_connection ? kMaxUnsent : kMaxRefusals)) {
      open_cluster_again();
      return try_endpoint();
    }
    if (!by_connection) end.how = AttemptEnd::How::refused;
  }
  if (retry(end, nullptr)) return;
  Flag flag = Flag::UR;
  std::string_view message = "weir: the endpoint reset the stream";
  if (reset.broken_by_peer()) {
    flag = Flag::UPE;
    message = "weir: the endpoint broke the protocol";
  } else if (by_connection) {
    flag = Flag::UC;
    message = "weir: the connection to the endpoint ended";
  }
  reply(local_reply(
      flag, response_started_ ? "upstream_reset_after_response_started" : "upstream_reset_before_response_started",
      message));
}

bool Exchange::retry(const AttemptEnd& end, const http::Headers* fields) {
  if (record_.bytes_sent > 0) return false;
  switch (retry_.judge(end)) {
    case routing::RetryState::Verdict::no:
      return false;
    case routing::RetryState::Verdict::exhausted:
      record_.flags.set(Flag::URX);
      return false;
    case routing::RetryState::Verdict::again:
      break;
  }
  if (!replayable_ || response_started_) return false;
  if (!retried_ && !pool_->begin_retries()) {
    ++worker_.stats().retry_overflows;
    record_.flags.set(Flag::UO);
    return false;
  }
  retried_ = true;
  const auto wait = retry_.next(fields, worker_.random());
  const base::Instant now = worker_.reactor().now();
  if (!wait || (timeout_ && now + *wait >= record_.started + *timeout_)) return false;
  ++worker_.stats().retries;
  drop_attempt(http::kCancel);
  start_step(Step::backoff, *wait);
  account();
  return true;
}

void Exchange::open_cluster_again() {
  if (!retry_.policy().ignore_previous_hosts || tried_count_ == tried_.size() ||
      !pool_->any_untried(downstream_->dialled().address.ip, tried()))
    tried_count_ = 0;
}

bool Exchange::hold_back(http::Headers& headers) {
  if (!record_.grpc || !request_ended_ || !may_retry()) return false;
  std::swap(held_head_, headers);
  start_step(Step::hold_back, kHoldBack);
  return true;
}

void Exchange::stop_holding_back() {
  if (due_ == Step::hold_back) begin_response(held_head_, false);
}

void Exchange::start_try_timer() {
  const auto& limit = retry_.policy().per_try_timeout;
  if (limit && request_ended_ && endpoint_ && !response_started_ && due_ == Step::none)
    start_step(Step::try_timeout, *limit);
}

void Exchange::start_step(Step step, base::Duration after) {
  cancel_step();
  due_ = step;
  worker_.reactor().timers().schedule(step_, worker_.reactor().now() + after);
}

void Exchange::cancel_step() {
  if (std::exchange(due_, Step::none) != Step::none) step_.cancel();
}

void Exchange::next_step(base::Instant) {
  switch (std::exchange(due_, Step::none)) {
    case Step::none:
      return;
    case Step::backoff:
      open_cluster_again();
      return try_endpoint();
    case Step::hold_back:
      begin_response(held_head_, false);
      return;
    case Step::try_timeout:
      stop_waiting();
      count_attempt(504);
      drop_attempt(http::kCancel);
      if (retry({AttemptEnd::How::try_timeout, 0, -1, true}, nullptr)) return;
      return reply(
          local_reply(Flag::UT, "upstream_per_try_timeout", "weir: the attempt took longer than perTryTimeout"));
  }
}

}  // namespace weir::proxy
