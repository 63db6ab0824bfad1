#include "clusters/outlier_detection.h"

#include <gtest/gtest.h>

#include <vector>

namespace weir::clusters {
namespace {

using namespace std::chrono_literals;
using config::OutlierDetection;

const base::Instant kStart{100s};

struct Endpoints {
  explicit Endpoints(size_t count) : states(count) {
    for (auto& state : states) all.push_back(&state);
  }
  // Whether this one ejected it.
  bool count(size_t i, int status, base::Instant now = kStart) {
    return count_attempt(policy, states[i], status, all, now);
  }
  // After how many of them in a row it is ejected; 0: not by a hundred.
  int ejected_by(size_t i, int status) {
    for (int n = 1; n <= 100; ++n)
      if (count(i, status)) return n;
    return 0;
  }

  OutlierDetection policy;
  std::vector<EndpointState> states;
  std::vector<EndpointState*> all;
};

struct Outliers : ::testing::Test, Endpoints {
  Outliers() : Endpoints(10) {}
};

TEST_F(Outliers, StatusesOfGrpcCountAsTheirHttpStatus) {
  const std::pair<int, int> kTable[] = {{0, 200},  {1, 200},  {2, 500},  {3, 200},  {4, 504},  {5, 200},
                                        {6, 200},  {7, 200},  {8, 200},  {9, 200},  {10, 200}, {11, 200},
                                        {12, 501}, {13, 500}, {14, 503}, {15, 500}, {16, 200}, {-1, 429}};
  for (const auto& [grpc, http] : kTable) EXPECT_EQ(counted_status(grpc == -1 ? 429 : 200, grpc), http) << grpc;
}

TEST_F(Outliers, FiveErrorsInARowEject) {
  policy.max_ejection_percent = 100;
  for (const int status : {500, 501, 503, 504, 599}) EXPECT_EQ(ejected_by(static_cast<size_t>(status % 10), status), 5);
}

TEST_F(Outliers, WhatIsNoErrorBeginsTheRowAnew) {
  for (int i = 0; i < 20; ++i) {
    for (int n = 0; n < 4; ++n) EXPECT_FALSE(count(0, 503));
    EXPECT_FALSE(count(0, i % 2 == 0 ? 200 : 404));
  }
}

TEST_F(Outliers, GatewayErrorsHaveARowOfTheirOwn) {
  policy.consecutive_5xx_errors = 0;
  policy.consecutive_gateway_errors = 3;
  EXPECT_EQ(ejected_by(0, 500), 0);
  count(0, 503);
  count(0, 504);
  count(0, 500);  // begins it anew
  EXPECT_EQ(ejected_by(0, 502), 3);
}

TEST_F(Outliers, ZeroIsOff) {
  policy.consecutive_5xx_errors = 0;
  EXPECT_EQ(ejected_by(0, 503), 0);
}

TEST_F(Outliers, OnlySoManyAreOutAtATimeButAlwaysOne) {
  policy.max_ejection_percent = 30;
  EXPECT_EQ(ejected_by(0, 503), 5);
  EXPECT_EQ(ejected_by(1, 503), 5);
  EXPECT_EQ(ejected_by(2, 503), 5);
  EXPECT_EQ(ejected_by(3, 503), 0);
  states[0].health.ejected = false;
  EXPECT_EQ(ejected_by(3, 503), 1) << "its row goes on, and there is room now";
  Endpoints few(2);
  few.policy.max_ejection_percent = 0;
  EXPECT_EQ(few.ejected_by(0, 503), 5);
  EXPECT_EQ(few.ejected_by(1, 503), 0);
}

TEST_F(Outliers, EachTimeInSuccessionLastsLongerAndHealthyIntervalsMakeUpForIt) {
  base::Instant now = kStart;
  for (int time = 1; time <= 3; ++time) {
    for (int n = 0; n < 5; ++n) count(0, 503, now);
    ASSERT_TRUE(states[0].health.ejected);
    EXPECT_FALSE(recover(policy, states[0], now + time * 30s - 1ms));
    now += time * 30s;
    EXPECT_TRUE(recover(policy, states[0], now));
    EXPECT_FALSE(states[0].health.ejected);
  }
  for (int interval = 0; interval < 3; ++interval) {
    EXPECT_TRUE(recovering(states[0]));
    EXPECT_FALSE(recover(policy, states[0], now));
  }
  EXPECT_FALSE(recovering(states[0]));
}

TEST_F(Outliers, NoEjectionIsLongerThanFiveMinutesUnlessAskedFor) {
  states[0].health = {0, 0, 1000, true, kStart};
  EXPECT_FALSE(recover(policy, states[0], kStart + 299s));
  EXPECT_TRUE(recover(policy, states[0], kStart + 300s));
  policy.base_ejection_time = std::chrono::hours(24 * 365 * 200);
  states[0].health = {0, 0, UINT32_MAX, true, kStart};
  EXPECT_FALSE(recover(policy, states[0], kStart + std::chrono::hours(24)));
}

TEST_F(Outliers, PanicIsBelowMinHealthPercent) {
  EXPECT_FALSE(panics(policy, 0, 10));
  policy.min_health_percent = 50;
  EXPECT_FALSE(panics(policy, 5, 10));
  EXPECT_TRUE(panics(policy, 4, 10));
  EXPECT_FALSE(panics(policy, 0, 0));
}

}  // namespace
}  // namespace weir::clusters
