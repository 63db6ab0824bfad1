// Listener accepts what BPF diverted to one pod's loopback listener.
#pragma once

#include "base/fd.h"
#include "io/reactor.h"

namespace weir::proxy {

class Source;
class Worker;

class Listener final : private io::Operation {
 public:
  Listener(Worker& worker, Source& source, base::Fd listening);
  ~Listener();  // after stopped()

  // Takes what waits in the accept queue, then closes. The BPF row must be gone before.
  void stop();
  bool stopped() const { return stopping_ && !pending(); }

 private:
  void completed(int32_t result, uint32_t cqe_flags) override;
  void arm();
  void retry(base::Instant now);

  Worker& worker_;
  Source& source_;
  base::Fd fd_;
  io::MemberTimer<Listener, &Listener::retry> retry_{*this};
  bool stopping_ = false;
};

}  // namespace weir::proxy
