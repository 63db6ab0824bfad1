#include "io/timer_wheel.h"

#include <algorithm>

namespace weir::io {

void Timer::cancel() {
  if (!next_ || !wheel_) return;
  TimerWheel::unlink(*this);
  --wheel_->size_;
}

TimerWheel::TimerWheel() {
  for (auto& level : slots_)
    for (Slot& slot : level) slot.next_ = slot.previous_ = &slot;
}

TimerWheel::~TimerWheel() {
  for (auto& level : slots_) {
    for (Slot& slot : level) {
      while (slot.next_ != &slot) unlink(*slot.next_);
      slot.next_ = slot.previous_ = nullptr;
    }
  }
}

void TimerWheel::append(Timer& head, Timer& timer) {
  timer.next_ = &head;
  timer.previous_ = head.previous_;
  head.previous_->next_ = &timer;
  head.previous_ = &timer;
}

void TimerWheel::unlink(Timer& timer) {
  timer.next_->previous_ = timer.previous_;
  timer.previous_->next_ = timer.next_;
  timer.next_ = timer.previous_ = nullptr;
}

void TimerWheel::schedule(Timer& timer, base::Instant when) {
  timer.cancel();
  timer.wheel_ = this;
  timer.tick_ = std::max(ceil_tick(when), tick_ + 1);
  ++size_;
  insert(timer);
}

// A timer sits in the lowest level whose span, counted from now, reaches it; in the level's
// slot of its tick. Cascading moves it down when the time comes near.
void TimerWheel::insert(Timer& timer) {
  const uint64_t ahead = timer.tick_ - tick_;
  for (int level = 0; level < kLevels; ++level) {
    if (ahead < (uint64_t{1} << (kSlotBits * (level + 1))) || level == kLevels - 1) {
      const uint64_t furthest = tick_ + (uint64_t{1} << (kSlotBits * kLevels)) - 1;
      const uint64_t tick = std::min(timer.tick_, furthest);
      append(slots_[static_cast<size_t>(level)][(tick >> (kSlotBits * level)) & (kSlots - 1)], timer);
      return;
    }
  }
}

void TimerWheel::cascade(int level) {
  Slot& slot = slots_[static_cast<size_t>(level)][(tick_ >> (kSlotBits * level)) & (kSlots - 1)];
  Timer* timer = slot.next_;
  slot.next_ = slot.previous_ = &slot;
  while (timer != &slot) {
    Timer* next = timer->next_;
    insert(*timer);
    timer = next;
  }
}

void TimerWheel::advance(base::Instant now) {
  const uint64_t target = floor_tick(now);
  if (size_ == 0) {
    tick_ = std::max(tick_, target);
    return;
  }
  while (tick_ < target) {
    ++tick_;
    for (int level = kLevels - 1; level > 0; --level) {
      const uint64_t span = (uint64_t{1} << (kSlotBits * level)) - 1;
      if ((tick_ & span) == 0) cascade(level);
    }
    Slot& due = slots_[0][tick_ & (kSlots - 1)];
    while (due.next_ != &due) {
      Timer& timer = *due.next_;
      unlink(timer);
      --size_;
      timer.expired(now);
    }
  }
}

base::Duration TimerWheel::next_expiry(base::Instant now) const {
  if (size_ == 0) return base::Duration::max();
  // The rest of level 0 exactly; otherwise the next cascade, which is at most 256 ms away.
  uint64_t tick = tick_ + 1;
  const uint64_t cascade_at = (tick_ | (kSlots - 1)) + 1;
  while (tick < cascade_at) {
    const Slot& slot = slots_[0][tick & (kSlots - 1)];
    if (slot.next_ != &slot) break;
    ++tick;
  }
  const base::Instant when{base::Duration(static_cast<int64_t>(tick) * 1'000'000)};
  return std::max(base::Duration(0), when - now);
}

}  // namespace weir::io
