#include "io/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace weir::io {

void Timer::cancel() {
  if (!next_ || !wheel_) return;
  wheel_->unlink(*this);
  --wheel_->size_;
}

TimerWheel::TimerWheel() {
  for (Slot& slot : slots_) slot.next_ = slot.previous_ = &slot;
}

TimerWheel::~TimerWheel() {
  for (Slot& slot : slots_) {
    while (slot.next_ != &slot) unlink(*slot.next_);
    slot.next_ = slot.previous_ = nullptr;
  }
}

void TimerWheel::append(Slot& slot, Timer& timer) {
  timer.next_ = &slot;
  timer.previous_ = slot.previous_;
  slot.previous_->next_ = &timer;
  slot.previous_ = &timer;
  const auto index = static_cast<size_t>(&slot - slots_.data());
  if (index < kSlots) occupied_[index / 64] |= uint64_t{1} << (index % 64);
}

void TimerWheel::unlink(Timer& timer) {
  Timer* const next = timer.next_;
  next->previous_ = timer.previous_;  // NOLINT(clang-analyzer-core.NullDereference): a ring has no end
  timer.previous_->next_ = next;
  timer.next_ = timer.previous_ = nullptr;
  if (next->next_ != next) return;
  // The ring has its head alone: the slot is empty.
  const auto index = static_cast<size_t>(static_cast<Slot*>(next) - slots_.data());
  if (index < kSlots) occupied_[index / 64] &= ~(uint64_t{1} << (index % 64));
}

void TimerWheel::schedule(Timer& timer, base::Instant when) {
  timer.cancel();
  timer.wheel_ = this;
  timer.tick_ = std::max(ceil_tick(when), tick_ + 1);
  ++size_;
  insert(timer);
}

void TimerWheel::schedule_next(Timer& timer) {
  timer.cancel();
  timer.wheel_ = this;
  ++size_;
  append(slots_[next_], timer);
}

// A timer sits in the lowest level whose span, counted from now, reaches it; in the level's
// slot of its tick. Cascading moves it down when the time comes near.
void TimerWheel::insert(Timer& timer) {
  const uint64_t ahead = timer.tick_ - tick_;
  for (int level = 0; level < kLevels; ++level) {
    if (ahead < (uint64_t{1} << (kSlotBits * (level + 1))) || level == kLevels - 1) {
      const uint64_t furthest = tick_ + (uint64_t{1} << (kSlotBits * kLevels)) - 1;
      const uint64_t tick = std::min(timer.tick_, furthest);
      append(slots_[static_cast<size_t>(level) * kSlots + ((tick >> (kSlotBits * level)) & (kSlots - 1))], timer);
      return;
    }
  }
}

void TimerWheel::cascade(int level) {
  Slot& slot = slots_[static_cast<size_t>(level) * kSlots + ((tick_ >> (kSlotBits * level)) & (kSlots - 1))];
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
  Slot& scheduled_next = slots_[next_];
  next_ = next_ == kNext ? kNext + 1 : kNext;
  fire(scheduled_next, now);
  while (tick_ < target) {
    tick_ = std::min(target, next_stop());
    for (int level = kLevels - 1; level > 0; --level) {
      const uint64_t span = (uint64_t{1} << (kSlotBits * level)) - 1;
      if ((tick_ & span) == 0) cascade(level);
    }
    fire(slots_[tick_ & (kSlots - 1)], now);
  }
}

void TimerWheel::fire(Slot& due, base::Instant now) {
  while (due.next_ != &due) {
    Timer& timer = *due.next_;
    unlink(timer);
    --size_;
    timer.expired(now);
  }
}

// The next tick with something to do: a timer of level 0, or the next cascade, which is at
// most 256 ms away.
uint64_t TimerWheel::next_stop() const {
  const uint64_t cascade_at = (tick_ | (kSlots - 1)) + 1;
  const uint64_t first = (tick_ + 1) & (kSlots - 1);
  if (first == 0) return cascade_at;
  uint64_t word = first / 64;
  uint64_t bits = occupied_[word] & (~uint64_t{0} << (first % 64));
  while (bits == 0 && ++word < occupied_.size()) bits = occupied_[word];
  if (bits == 0) return cascade_at;
  return (tick_ & ~uint64_t{kSlots - 1}) + word * 64 + static_cast<uint64_t>(std::countr_zero(bits));
}

base::Duration TimerWheel::next_expiry(base::Instant now) const {
  if (size_ == 0) return base::Duration::max();
  if (slots_[next_].next_ != &slots_[next_]) return base::Duration(0);
  const base::Instant when{base::Duration(static_cast<int64_t>(next_stop()) * 1'000'000)};
  return std::max(base::Duration(0), when - now);
}

}  // namespace weir::io
