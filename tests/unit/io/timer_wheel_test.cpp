#include "io/timer_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

namespace weir::io {
namespace {

using std::chrono::milliseconds;

base::Instant at(int64_t ms) { return base::Instant(milliseconds(ms)); }

struct Recording final : Timer {
  void expired(base::Instant now) override { fired.push_back(now); }
  std::vector<base::Instant> fired;
};

TEST(TimerWheel, FiresAtItsInstantAndNotBefore) {
  TimerWheel wheel;
  wheel.start(at(1000));
  Recording timer;
  wheel.schedule(timer, at(1010));
  wheel.advance(at(1009));
  EXPECT_TRUE(timer.fired.empty());
  EXPECT_TRUE(timer.scheduled());
  wheel.advance(at(1010));
  EXPECT_EQ(timer.fired, std::vector{at(1010)});
  EXPECT_FALSE(timer.scheduled());
}

TEST(TimerWheel, NeverEarlyWithinATick) {
  TimerWheel wheel;
  wheel.start(at(0));
  Recording timer;
  wheel.schedule(timer, at(5) + std::chrono::microseconds(1));
  wheel.advance(at(5));
  EXPECT_TRUE(timer.fired.empty());
  wheel.advance(at(6));
  EXPECT_EQ(timer.fired.size(), 1u);
}

TEST(TimerWheel, ThePastIsTheNextTurn) {
  TimerWheel wheel;
  wheel.start(at(500));
  Recording timer;
  wheel.schedule(timer, at(3));
  EXPECT_LE(wheel.next_expiry(at(500)), milliseconds(1));
  wheel.advance(at(501));
  EXPECT_EQ(timer.fired.size(), 1u);
}

TEST(TimerWheel, CancelAndReschedule) {
  TimerWheel wheel;
  wheel.start(at(0));
  Recording timer;
  wheel.schedule(timer, at(10));
  wheel.schedule(timer, at(20));
  EXPECT_EQ(wheel.size(), 1u);
  wheel.advance(at(15));
  EXPECT_TRUE(timer.fired.empty());
  timer.cancel();
  EXPECT_EQ(wheel.size(), 0u);
  wheel.advance(at(30));
  EXPECT_TRUE(timer.fired.empty());
  EXPECT_EQ(wheel.next_expiry(at(30)), base::Duration::max());
}

TEST(TimerWheel, DestroyedTimerIsForgotten) {
  TimerWheel wheel;
  wheel.start(at(0));
  {
    Recording timer;
    wheel.schedule(timer, at(10));
  }
  EXPECT_EQ(wheel.size(), 0u);
  wheel.advance(at(20));
}

TEST(TimerWheel, ATimerMayCancelAnotherThatIsDue) {
  struct Canceller final : Timer {
    explicit Canceller(Timer& victim_timer) : victim(victim_timer) {}
    void expired(base::Instant) override { victim.cancel(); }
    Timer& victim;
  };
  TimerWheel wheel;
  wheel.start(at(0));
  Recording victim;
  Canceller canceller(victim);
  wheel.schedule(canceller, at(10));
  wheel.schedule(victim, at(10));
  wheel.advance(at(10));
  EXPECT_TRUE(victim.fired.empty());
}

TEST(TimerWheel, WhatIsScheduledNextNeedsNoTick) {
  struct Again final : Timer {
    explicit Again(TimerWheel& its) : wheel(its) {}
    void expired(base::Instant) override {
      if (++fired < 3) wheel.schedule_next(*this);
    }
    TimerWheel& wheel;
    int fired = 0;
  };
  TimerWheel wheel;
  wheel.start(at(10));
  Again again(wheel);
  Recording once, never;
  wheel.schedule_next(again);
  wheel.schedule_next(once);
  wheel.schedule_next(never);
  never.cancel();
  EXPECT_EQ(wheel.size(), 2u);
  EXPECT_EQ(wheel.next_expiry(at(10)), base::Duration(0));
  wheel.advance(at(10));
  EXPECT_EQ(once.fired.size(), 1u);
  EXPECT_EQ(again.fired, 1) << "the second time is for the next call";
  EXPECT_EQ(wheel.next_expiry(at(10)), base::Duration(0));
  wheel.advance(at(10));
  wheel.advance(at(10));
  EXPECT_EQ(again.fired, 3);
  EXPECT_EQ(wheel.next_expiry(at(10)), base::Duration::max());
  wheel.schedule_next(once);
  wheel.schedule(once, at(20));
  wheel.advance(at(19));
  EXPECT_EQ(once.fired.size(), 1u) << "it was put off";
  wheel.advance(at(20));
  EXPECT_EQ(once.fired.size(), 2u);
}

// Against a plain map: random schedules, cancellations and steps, over all levels of the wheel.
TEST(TimerWheel, AgreesWithAModel) {
  constexpr int64_t kReaches[] = {10, 300, 70'000, 5'000'000, 20'000'000};
  std::mt19937 random(7);
  TimerWheel wheel;
  int64_t now = 123'456'789;
  wheel.start(at(now));
  std::vector<std::unique_ptr<Recording>> timers;
  for (int i = 0; i < 200; ++i) timers.push_back(std::make_unique<Recording>());
  std::map<size_t, int64_t> model;  // timer -> due
  for (int step = 0; step < 20'000; ++step) {
    const size_t which = random() % timers.size();
    const int64_t reach = kReaches[random() % std::size(kReaches)];
    if (random() % 4 == 0) {
      timers[which]->cancel();
      model.erase(which);
    } else {
      const int64_t due = now + 1 + static_cast<int64_t>(random() % static_cast<uint32_t>(reach));
      wheel.schedule(*timers[which], at(due));
      model[which] = due;
    }
    if (step % 3 == 0) {
      // Sleeping as long as the wheel says never oversleeps a timer.
      const auto sleep = std::chrono::duration_cast<milliseconds>(wheel.next_expiry(at(now)));
      if (!model.empty()) {
        int64_t first = INT64_MAX;
        for (const auto& [timer, due] : model) first = std::min(first, due);
        ASSERT_LE(now + sleep.count(), first);
      }
      now += static_cast<int64_t>(random() % static_cast<uint32_t>(reach / 8 + 2));
      wheel.advance(at(now));
      for (auto it = model.begin(); it != model.end();) {
        const bool fired = !timers[it->first]->fired.empty();
        ASSERT_EQ(fired, it->second <= now) << "timer " << it->first << " due " << it->second << " now " << now;
        timers[it->first]->fired.clear();
        it = fired ? model.erase(it) : std::next(it);
      }
      ASSERT_EQ(wheel.size(), model.size());
    }
  }
}

}  // namespace
}  // namespace weir::io
