// A hierarchical timer wheel with millisecond ticks: scheduling and cancelling
// cost O(1), whatever the number of timers. A timer fires in the first turn at or
// after its instant, never before. One per reactor.
#pragma once

#include <array>
#include <cstdint>

#include "base/clock.h"

namespace weir::io {

class TimerWheel;

// Embedded in what wants to be called; cancels itself when destroyed.
class Timer {
 public:
  virtual void expired(base::Instant now) = 0;
  bool scheduled() const { return next_ != nullptr; }
  void cancel();

 protected:
  Timer() = default;
  ~Timer() { cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  friend class TimerWheel;
  Timer* next_ = nullptr;
  Timer* previous_ = nullptr;
  TimerWheel* wheel_ = nullptr;
  uint64_t tick_ = 0;
};

// Calls a member function: io::MemberTimer<Exchange, &Exchange::deadline_passed> deadline_{*this};
template <class Owner, void (Owner::*kFunction)(base::Instant)>
class MemberTimer final : public Timer {
 public:
  explicit MemberTimer(Owner& owner) : owner_(owner) {}
  void expired(base::Instant now) override { (owner_.*kFunction)(now); }

 private:
  Owner& owner_;
};

class TimerWheel {
 public:
  TimerWheel();
  ~TimerWheel();
  TimerWheel(const TimerWheel&) = delete;
  TimerWheel& operator=(const TimerWheel&) = delete;

  void start(base::Instant now) { tick_ = floor_tick(now); }
  // (Re)schedules; the past means the next turn. Instants beyond 49 days fire at 49 days.
  void schedule(Timer& timer, base::Instant when);
  // Fires in the next advance(), without waiting for a tick.
  void schedule_next(Timer& timer);
  // Fires what is due. A timer that schedules itself again from expired() waits for the next call at least.
  void advance(base::Instant now);
  // Time until advance() has something to do (at most: an upper level may cascade early); max() if no timer.
  base::Duration next_expiry(base::Instant now) const;
  size_t size() const { return size_; }

 private:
  friend class Timer;
  static constexpr int kLevels = 4;
  static constexpr int kSlotBits = 8;
  static constexpr uint32_t kSlots = 1u << kSlotBits;
  struct Slot final : Timer {  // the head of a circular list
    void expired(base::Instant) override {}
  };

  static uint64_t floor_tick(base::Instant when) {
    return static_cast<uint64_t>(when.time_since_epoch().count()) / 1'000'000;
  }
  static uint64_t ceil_tick(base::Instant when) {
    return (static_cast<uint64_t>(when.time_since_epoch().count()) + 999'999) / 1'000'000;
  }
  void insert(Timer& timer);
  void cascade(int level);
  void fire(Slot& due, base::Instant now);
  void append(Slot& slot, Timer& timer);
  void unlink(Timer& timer);
  uint64_t next_stop() const;

  uint64_t tick_ = 0;  // all timers of ticks <= tick_ have fired
  size_t size_ = 0;
  // Level by level, and two for the next advance(): one fills while the other fires.
  static constexpr size_t kNext = size_t{kLevels} * kSlots;
  std::array<Slot, kNext + 2> slots_;
  size_t next_ = kNext;
  std::array<uint64_t, kSlots / 64> occupied_{};  // level 0: a bit for each slot that has a timer
};

}  // namespace weir::io
