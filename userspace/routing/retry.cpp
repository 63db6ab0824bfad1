#include "routing/retry.h"

#include <algorithm>
#include <charconv>

namespace weir::routing {
namespace {

using config::RetryOn;
using How = AttemptEnd::How;

constexpr base::Duration kBackoff = std::chrono::milliseconds(25);
constexpr int kLongestBackoff = 10;                             // times the first; as Envoy
constexpr base::Duration kLongestWait = std::chrono::hours(1);  // ten times it is far from overflowing

bool grpc_condition(const config::RetryPolicy& policy, int status) {
  switch (status) {
    case 1:
      return policy.has(RetryOn::cancelled);
    case 4:
      return policy.has(RetryOn::deadline_exceeded);
    case 8:
      return policy.has(RetryOn::resource_exhausted);
    case 13:
      return policy.has(RetryOn::internal);
    case 14:
      return policy.has(RetryOn::unavailable);
    default:
      return false;
  }
}

bool http_condition(const config::RetryPolicy& policy, int status) {
  if (status >= 500 && status < 600 && policy.has(RetryOn::http_5xx)) return true;
  if (status >= 502 && status <= 504 && policy.has(RetryOn::gateway_error)) return true;
  if (status == 409 && policy.has(RetryOn::retriable_4xx)) return true;
  return policy.has(RetryOn::retriable_status_codes) && status > 0 &&
         std::binary_search(policy.status_codes.begin(), policy.status_codes.end(), static_cast<uint16_t>(status));
}

}  // namespace

void RetryState::begin(const config::RetryPolicy& policy, std::string_view path) {
  policy_ = &policy;
  retries_ = 0;
  const auto& methods = policy.idempotent_methods;
  idempotent_ = !methods || std::find(methods->begin(), methods->end(), path) != methods->end();
}

RetryState::Verdict RetryState::judge(const AttemptEnd& end) const {
  if (!covers(end)) return Verdict::no;
  if (retries_ < policy_->attempts) return Verdict::again;
  return policy_->attempts > 0 ? Verdict::exhausted : Verdict::no;
}

bool RetryState::covers(const AttemptEnd& end) const {
  // An endpoint that does not answer at all counts for these.
  const bool silent =
      policy_->has(RetryOn::reset) || policy_->has(RetryOn::gateway_error) || policy_->has(RetryOn::http_5xx);
  switch (end.how) {
    case How::connection_failed:
      return silent || policy_->has(RetryOn::connect_failure) || policy_->has(RetryOn::reset_before_request);
    case How::refused:
      return silent || policy_->has(RetryOn::refused_stream);
    case How::reset:
      if (!end.request_sent) return silent || policy_->has(RetryOn::reset_before_request);
      return idempotent_ && silent;
    case How::try_timeout:
      return idempotent_ && (silent || policy_->has(RetryOn::deadline_exceeded));
    case How::response:
      return idempotent_ && (grpc_condition(*policy_, end.grpc_status) || http_condition(*policy_, end.http_status));
  }
  return false;
}

std::optional<base::Duration> RetryState::next(const http::Headers* fields, uint64_t random) {
  if (const auto pushback = fields ? fields->find("grpc-retry-pushback-ms") : std::nullopt) {
    int64_t ms = -1;
    const auto [end, error] = std::from_chars(pushback->data(), pushback->data() + pushback->size(), ms);
    if (error != std::errc() || end != pushback->data() + pushback->size() || ms < 0) return std::nullopt;
    ++retries_;
    return std::min<base::Duration>(std::chrono::milliseconds(std::min<int64_t>(ms, INT32_MAX)), kLongestWait);
  }
  const base::Duration first = std::min(policy_->backoff.value_or(kBackoff), kLongestWait);
  const int64_t growth = std::min<int64_t>((int64_t{2} << std::min(retries_, 8u)) - 1, kLongestBackoff);
  ++retries_;
  const auto most = static_cast<uint64_t>(growth * first.count());
  return base::Duration(static_cast<int64_t>(random % (most + 1)));
}

}  // namespace weir::routing
