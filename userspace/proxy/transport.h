// Transport: whatever owns sockets on behalf of one source pod: an accepted
// connection that is still being looked at (Inbound), an HTTP/2 connection
// (Downstream, Upstream), a TCP relay. The worker owns them all, ticks them once a
// second, and frees one when it says removed().
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.h"
#include "http/stream.h"
#include "http2/intrusive_list.h"

namespace weir::proxy {

class Source;
class Worker;
struct InTurn;

// The error code of the http::Reset with which streams of a connection end that was closed to free memory. Never on the
// wire, and no code of RFC 9113 section 7.
inline constexpr uint32_t kShed = UINT32_MAX;
inline bool is_shed(const http::Reset& reset) {
  return reset.origin == http::Reset::Origin::connection && reset.error_code == kShed;
}

// What may have to wait for its pod's turn, in its source's list (Source::wait_for_turn).
class TakesTurns : public http2::Hook<InTurn> {
 public:
  // Goes on with what waits: of a connection bytes for its socket, and bytes from it that came when the pod had used up
  // its turn. Called at the end of a turn in which the pod may work.
  virtual void flush() {}

 protected:
  ~TakesTurns() { unlink(); }
};

class Transport : public TakesTurns {
 public:
  enum class Opened : uint8_t { by_pod, by_us };  // the first count against the pod's connections

  Transport(Worker& worker, Source& source, Opened opened);
  virtual ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  Worker& worker() { return worker_; }
  Source& source() { return source_; }

  virtual void tick(base::Instant now) = 0;
  // The agent is going away: finish what the application began, take nothing new from it, then close.
  virtual void drain() = 0;
  // The drain limit is reached: ends what is not made of RPCs (those are answered one by one).
  virtual void end_relay() {}
  // Close at once; whoever waits for it is told. What it holds is given back soon.
  virtual void abort() = 0;

  // `bytes` more (or less, below 0) wait in the agent because of this connection.
  void hold(int64_t bytes);
  int64_t held() const { return held_; }

 protected:
  void needs_flush();
  bool opened_by_pod() const { return opened_ == Opened::by_pod; }
  // Counts among those that may_linger() is about.
  void set_lingering();
  // What it holds will be free soon.
  void set_leaving() { leaving_ = true; }
  // The last call: the worker destroys the object.
  void removed();

 private:
  friend class Worker;
  Worker& worker_;
  Source& source_;
  size_t index_ = 0;  // among the worker's transports
  int64_t held_ = 0;
  const Opened opened_;
  bool lingering_ = false;
  bool leaving_ = false;
};

}  // namespace weir::proxy
