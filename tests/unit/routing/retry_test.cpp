#include "routing/retry.h"

#include <gtest/gtest.h>

namespace weir::routing {
namespace {

using config::RetryOn;
using config::RetryPolicy;
using How = AttemptEnd::How;
using Verdict = RetryState::Verdict;
using namespace std::chrono_literals;

RetryPolicy policy(std::initializer_list<RetryOn> conditions, uint32_t attempts = 2) {
  RetryPolicy made;
  made.attempts = attempts;
  for (const RetryOn condition : conditions) made.conditions |= static_cast<uint32_t>(condition);
  return made;
}

RetryState state(const RetryPolicy& policy) {
  RetryState made;
  made.begin(policy, "/pkg.Service/Method");
  return made;
}

AttemptEnd grpc(int status) { return {How::response, 200, status, true}; }
AttemptEnd http(int status) { return {How::response, status, -1, true}; }
constexpr AttemptEnd kNoConnection{How::connection_failed}, kRefused{How::refused}, kUnsent{How::reset},
    kReset{How::reset, 0, -1, true}, kTryTimeout{How::try_timeout, 0, -1, true};

// Each condition covers exactly these ends.
TEST(RetryState, ConditionsCoverWhatTheySay) {
  const std::pair<const char*, AttemptEnd> kEnds[] = {
      {"ok", grpc(0)},
      {"1", grpc(1)},
      {"2", grpc(2)},
      {"4", grpc(4)},
      {"8", grpc(8)},
      {"13", grpc(13)},
      {"14", grpc(14)},
      {"409", http(409)},
      {"500", http(500)},
      {"503", http(503)},
      {"418", http(418)},
      {"404", http(404)},
      {"no connection", kNoConnection},
      {"refused", kRefused},
      {"unsent", kUnsent},
      {"reset", kReset},
      {"try timeout", kTryTimeout},
  };
  const std::string kSilent = " no connection refused unsent reset try timeout";
  const std::pair<RetryOn, std::string> kCases[] = {
      {RetryOn::cancelled, " 1"},
      {RetryOn::deadline_exceeded, " 4 try timeout"},
      {RetryOn::resource_exhausted, " 8"},
      {RetryOn::internal, " 13"},
      {RetryOn::unavailable, " 14"},
      {RetryOn::connect_failure, " no connection"},
      {RetryOn::refused_stream, " refused"},
      {RetryOn::reset, kSilent},
      {RetryOn::reset_before_request, " no connection unsent"},
      {RetryOn::http_5xx, " 500 503" + kSilent},
      {RetryOn::gateway_error, " 503" + kSilent},
      {RetryOn::retriable_4xx, " 409"},
      {RetryOn::retriable_status_codes, " 418"},
  };
  for (const auto& [condition, expected] : kCases) {
    RetryPolicy one = policy({condition});
    one.status_codes = {418};
    std::string covered;
    for (const auto& [name, end] : kEnds)
      if (state(one).judge(end) == Verdict::again) covered += std::string(" ") + name;
    EXPECT_EQ(covered, expected) << static_cast<uint32_t>(condition);
  }
}

TEST(RetryState, AttemptsAreUsedUp) {
  const RetryPolicy twice = policy({RetryOn::unavailable});
  RetryState retry = state(twice);
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(retry.possible());
    ASSERT_EQ(retry.judge(grpc(14)), Verdict::again);
    ASSERT_TRUE(retry.next(nullptr, 7));
  }
  EXPECT_FALSE(retry.possible());
  EXPECT_EQ(retry.judge(grpc(14)), Verdict::exhausted);
  EXPECT_EQ(retry.judge(grpc(13)), Verdict::no);
  EXPECT_EQ(retry.made(), 2u);
  EXPECT_EQ(state(policy({RetryOn::unavailable}, 0)).judge(grpc(14)), Verdict::no) << "off is not used up";
}

TEST(RetryState, WhatMayHaveBeenProcessedIsRepeatedOnlyIfIdempotent) {
  RetryPolicy some = policy({RetryOn::unavailable, RetryOn::reset, RetryOn::refused_stream});
  some.idempotent_methods = {"/pkg.Service/Get"};
  for (const AttemptEnd& end : {grpc(14), kReset, kTryTimeout}) EXPECT_EQ(state(some).judge(end), Verdict::no);
  for (const AttemptEnd& end : {kNoConnection, kRefused, kUnsent}) EXPECT_EQ(state(some).judge(end), Verdict::again);
  some.idempotent_methods->push_back("/pkg.Service/Method");
  for (const AttemptEnd& end : {grpc(14), kReset, kTryTimeout}) EXPECT_EQ(state(some).judge(end), Verdict::again);
}

TEST(RetryState, BackoffGrowsWithFullJitterUpToItsLimit) {
  RetryPolicy many = policy({RetryOn::unavailable}, 20);
  RetryState retry = state(many);
  const base::Duration kMost[] = {25ms, 75ms, 175ms, 250ms, 250ms};
  for (const base::Duration most : kMost) {
    RetryState shortest = retry, longest = retry;
    EXPECT_EQ(shortest.next(nullptr, 0), 0ms);
    EXPECT_EQ(longest.next(nullptr, static_cast<uint64_t>(most.count())), most);
    EXPECT_LT(retry.next(nullptr, static_cast<uint64_t>(most.count()) + 1), 1ms);
  }
  many.backoff = 1s;
  retry.begin(many, "/");
  EXPECT_EQ(retry.next(nullptr, 1'000'000'000), 1s);
  many.backoff = base::Duration::max();
  retry.begin(many, "/");
  for (int i = 0; i < 5; ++i) EXPECT_LE(retry.next(nullptr, UINT64_MAX / 2), 10h);
}

TEST(RetryState, ThePushbackOfTheEndpointIsObeyed) {
  const std::pair<const char*, std::optional<base::Duration>> kCases[] = {
      {"0", 0ms},         {"700", 700ms},       {"-1", std::nullopt},   {"soon", std::nullopt},
      {"", std::nullopt}, {"5x", std::nullopt}, {"99999999999999", 1h},
  };
  const RetryPolicy one = policy({RetryOn::unavailable});
  for (const auto& [text, expected] : kCases) {
    http::Headers trailers;
    trailers.add("grpc-status", "14");
    trailers.add("grpc-retry-pushback-ms", text);
    EXPECT_EQ(state(one).next(&trailers, 3), expected) << text;
  }
}

}  // namespace
}  // namespace weir::routing
