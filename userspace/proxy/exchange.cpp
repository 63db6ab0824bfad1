#include "proxy/exchange.h"

#include <charconv>
#include <utility>

#include "grpc/timeout.h"
#include "proxy/downstream.h"
#include "proxy/worker.h"
#include "routing/route.h"
#include "routing/transform.h"

namespace weir::proxy {
namespace {

using routing::AttemptEnd;
using telemetry::Flag;

// A request body beyond this is not kept for sending again.
constexpr size_t kReplayCap = 64 * 1024;
// Beyond this a deadline is none; it keeps instants far from overflowing.
constexpr base::Duration kLongestTimeout = std::chrono::hours(24 * 365);

bool is_grpc(const http::Headers& request) { return request.get("content-type").starts_with("application/grpc"); }

int parse_number(std::string_view text, int otherwise) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

}  // namespace

Exchange::Exchange(Worker& worker) : worker_(worker) {}

void Exchange::begin(Downstream& downstream, http::Stream& stream) {
  active_ = true;
  downstream_ = &downstream;
  down_ = &stream;
  up_ = nullptr;
  snapshot_ = &worker_.use_snapshot();
  request_.clear();
  request_trailers_.clear();
  replayable_ = true;
  request_ended_ = has_request_trailers_ = false;
  attempt_sent_ = given_back_ = 0;
  service_ = nullptr;
  port_ = nullptr;
  rule_ = nullptr;
  destination_ = nullptr;
  cluster_ = nullptr;
  pool_ = nullptr;
  endpoint_ = nullptr;
  tried_count_ = 0;
  refusals_ = 0;
  due_ = Step::none;
  retried_ = false;
  response_started_ = response_ended_ = false;
  timeout_.reset();
  request_messages_ = {};
  response_messages_ = {};
  record_ = {};
  failure_.clear();
  ++worker_.stats().active_rpcs;
  admitted_ = downstream.source().begin_stream();
}

// 1. The request's head: what is asked of whom, and until when.
void Exchange::on_request(http::Headers& headers, bool end_stream) {
  std::swap(request_, headers);  // the engine gets our old memory, we keep its fields
  request_ended_ = end_stream;
  record_.started = active_at_ = worker_.reactor().now();
  record_.grpc = is_grpc(request_);
  record_.details = "via_upstream";
  if (const auto timeout = request_.find("grpc-timeout"))
    if (const auto parsed = grpc::parse_timeout(*timeout)) timeout_ = std::min(*parsed, kLongestTimeout);
  if (worker_.options().stream_idle_timeout > base::Duration::zero()) idle_passed(record_.started);
  account();
  if (const auto dialled = snapshot_->snapshot().at(downstream_->dialled().address); dialled.service) {
    service_ = dialled.service->get();
    port_ = dialled.port;
  }
  if (!admitted_) return reply(local_reply(Flag::OM, "overload", "weir: the pod has too many RPCs under way"));
  if (!port_) return reply(local_reply(Flag::NC, "cluster_not_found", "weir: the service is gone"));
  route_request();
}

// 2. Its route: which cluster, and what the rule changes.
void Exchange::route_request() {
  using Outcome = routing::Route::Outcome;
  const config::Pod& pod = downstream_->source().pod();
  const routing::Request request{request_, port_->port, pod.labels, pod.namespace_name};
  const routing::Route route = routing::route(snapshot_->snapshot(), *service_, *port_, request, worker_.random());
  rule_ = route.rule;
  destination_ = route.destination;
  if (rule_ && rule_->timeout && (!timeout_ || *rule_->timeout < *timeout_)) {
    if (timeout_) request_.set("grpc-timeout", grpc::TimeoutText(*rule_->timeout).view());
    timeout_ = std::min(*rule_->timeout, kLongestTimeout);
  }
  start_deadline();
  switch (route.outcome) {
    case Outcome::no_route:
      return reply(local_reply(Flag::NR, "route_not_found", "weir: no rule of the VirtualService matches"));
    case Outcome::no_cluster:
      return reply(local_reply(Flag::NC, "cluster_not_found", "weir: the route leads to no Service or subset"));
    case Outcome::direct_response:
      return reply(direct_reply(*rule_));
    case Outcome::cluster:
      break;
  }
  cluster_ = route.cluster->get();
  if (cluster_->tls_wanted)
    return reply(local_reply(Flag::UF, "upstream_tls_not_available",
                             "weir: the DestinationRule asks for TLS to the endpoints, which weir does not have"));
  retry_.begin(rule_ && rule_->retries ? *rule_->retries : snapshot_->snapshot().default_retries,
               request_.get(":path"));
  if (rule_) {
    routing::apply(destination_->headers.request, request_);
    routing::apply(rule_->headers.request, request_);
    if (rule_->rewrite) routing::rewrite(*rule_->rewrite, route.match, request_);
  }
  pool_ = &downstream_->source().pool(*route.cluster);
  pool_->begin_rpc();
  try_endpoint();
}

void Exchange::start_deadline() {
  if (timeout_) worker_.reactor().timers().schedule(deadline_, record_.started + *timeout_);
}

// 4. The request goes out: its head, and what has come of its body.
void Exchange::send_request(Upstream& upstream) {
  if (!pool_->may_begin()) return overflow("weir: as many calls as http2MaxRequests allows are under way");
  up_ = upstream.open(from_upstream_);
  record_.upstream_local = upstream.local_address();
  record_.flags = {};
  attempt_sent_ = 0;
  // Within the turn in which the request came, its grpc-timeout is still true as it stands.
  if (const base::Duration spent = worker_.reactor().now() - record_.started;
      timeout_ && spent > base::Duration::zero() && request_.find("grpc-timeout"))
    request_.set("grpc-timeout", grpc::TimeoutText(std::max(*timeout_ - spent, base::Duration(1))).view());
  if (retry_.made() > 0) {
    request_.set("x-envoy-attempt-count", std::to_string(retry_.made() + 1));
    if (record_.grpc) request_.set("grpc-previous-rpc-attempts", std::to_string(retry_.made()));
  }
  const bool body = !kept_.empty() || has_request_trailers_ || !request_ended_;
  up_->send_headers(request_, !body);
  for (size_t i = 0; i < kept_.count() && up_; ++i) {
    const bool last = i + 1 == kept_.count() && request_ended_ && !has_request_trailers_;
    send_request_data(kept_[i], last);
  }
  if (has_request_trailers_)
    up_->send_trailers(request_trailers_);
  else if (body && kept_.empty() && request_ended_)
    up_->send_data({}, true);
  limit_kept();
  account();
}

void Exchange::limit_kept() {
  account_kept();
  if (kept_.bytes() <= kReplayCap && worker_.replay_bytes() <= worker_.options().replay_memory) return;
  if (replayable_) ++worker_.stats().replay_overflows;
  replayable_ = false;
  kept_.clear();
}

void Exchange::send_request_data(const base::Slice& data, bool end_stream) {
  request_bytes_left(up_->send_data(data, end_stream));
}

void Exchange::on_request_sent(size_t bytes) {
  request_bytes_left(bytes);
  account();
}

void Exchange::request_bytes_left(size_t bytes) {
  attempt_sent_ += bytes;
  if (attempt_sent_ <= given_back_) return;  // sent again: the application has this window back already
  down_->consume(attempt_sent_ - given_back_);
  given_back_ = attempt_sent_;
}

void Exchange::on_request_data(base::Slice data, bool end_stream) {
  request_ended_ = end_stream;
  record_.bytes_received += data.size();
  request_messages_.add(data.bytes());
  if (response_ended_) return down_->consume(data.size());  // answered already: not wanted any more
  data = keepable(std::move(data));
  if (replayable_ || !up_) kept_.push(data);
  if (up_) {
    send_request_data(data, end_stream);
    limit_kept();
  }
  if (end_stream) start_try_timer();
  account();
}

void Exchange::on_request_trailers(http::Headers& trailers) {
  request_ended_ = true;
  if (response_ended_) return;
  has_request_trailers_ = true;
  std::swap(request_trailers_, trailers);
  if (up_) up_->send_trailers(request_trailers_);
  start_try_timer();
  account();
}

// 5. The response comes back. Once its head is on the way nothing can be tried again.
void Exchange::on_response(http::Headers& headers, bool end_stream) {
  const int status = parse_number(headers.get(":status"), 0);
  if (status >= 100 && status < 200) return down_->send_headers(headers, false);
  if (end_stream || status != 200) {
    count_attempt(status, end_stream ? grpc_status(headers) : -1);
    const AttemptEnd end{AttemptEnd::How::response, status, end_stream ? grpc_status(headers) : -1, true};
    if (retry(end, &headers)) return;
  } else if (hold_back(headers)) {
    return account();
  }
  begin_response(headers, end_stream);
}

void Exchange::begin_response(http::Headers& headers, bool end_stream) {
  cancel_step();
  response_started_ = true;
  replayable_ = false;
  kept_.clear();
  record_.response_code = parse_number(headers.get(":status"), 0);
  record_.upstream_headers = worker_.reactor().now();
  if (end_stream) note_status(headers);
  if (rule_) {
    routing::apply(destination_->headers.response, headers);
    routing::apply(rule_->headers.response, headers);
  }
  down_->send_headers(headers, end_stream);
  if (end_stream) return response_complete();
  account();
}

void Exchange::on_response_data(base::Slice data, bool end_stream) {
  stop_holding_back();
  record_.bytes_sent += data.size();
  response_messages_.add(data.bytes());
  const size_t sent = down_->send_data(keepable(std::move(data)), end_stream);
  if (sent > 0) up_->consume(sent);
  if (end_stream) {
    if (record_.response_code == 200) count_attempt(200);  // any other counted with its head
    return response_complete();
  }
  account();
}

void Exchange::on_response_trailers(http::Headers& trailers) {
  if (due_ == Step::hold_back || record_.response_code == 200) count_attempt(200, grpc_status(trailers));
  // Without a message between them as good as Trailers-Only.
  if (record_.bytes_sent == 0) {
    if (retry({AttemptEnd::How::response, record_.response_code, grpc_status(trailers), true}, &trailers)) return;
    stop_holding_back();
  }
  note_status(trailers);
  down_->send_trailers(trailers);
  response_complete();
}

void Exchange::note_status(const http::Headers& fields) { record_.grpc_status = grpc_status(fields); }

int Exchange::grpc_status(const http::Headers& fields) const {
  return record_.grpc ? parse_number(fields.get("grpc-status"), -1) : -1;
}

void Exchange::on_response_sent(size_t bytes) {
  if (up_ && bytes > 0) up_->consume(bytes);
  if (response_ended_ && down_->all_sent()) return finish();
  account();
}

void Exchange::response_complete() {
  response_ended_ = true;
  deadline_.cancel();
  idle_.cancel();
  leave_endpoint();
  if (down_->all_sent()) return finish();
  // The stream is kept until its bytes have left: they count against the window of the endpoint's connection, or
  // responses that a client does not read would pile up here. But an endpoint that answered before the request
  // was complete does not want the rest.
  if (!request_ended_ || !up_->all_sent()) drop_attempt(http::kCancel);
  account();
}

}  // namespace weir::proxy
