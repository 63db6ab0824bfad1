// Transport: whatever owns sockets on behalf of one source pod: an accepted
// connection that is still being looked at (Inbound), an HTTP/2 connection
// (Downstream, Upstream), a TCP relay. The worker owns them all, ticks them once a
// second, and frees one when it says removed().
#pragma once

#include <cstddef>

#include "base/clock.h"

namespace weir::proxy {

class Source;
class Worker;

class Transport {
 public:
  Transport(Worker& worker, Source& source);
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
  // Close at once; whoever waits for it is told.
  virtual void abort() = 0;
  // Puts bytes that wait on the socket; called at the end of a turn in which needs_flush() was.
  virtual void flush() {}

 protected:
  void needs_flush();
  // The last call: the worker destroys the object.
  void removed();

 private:
  friend class Worker;
  Worker& worker_;
  Source& source_;
  size_t index_ = 0;    // among the worker's transports
  bool dirty_ = false;  // in the worker's list of those to flush
};

}  // namespace weir::proxy
