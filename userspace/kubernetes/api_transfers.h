// ApiTransfers runs the Reflectors' requests, several at a time over one connection where the server has HTTP/2
// (libcurl multi). One thread, but for wake().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kubernetes/api_access.h"
#include "kubernetes/reflector.h"

namespace weir::kubernetes {

class ApiTransfers {
 public:
  ApiTransfers(ApiAccess access, std::string user_agent);
  ~ApiTransfers();
  ApiTransfers(const ApiTransfers&) = delete;
  ApiTransfers& operator=(const ApiTransfers&) = delete;

  // Begins the request that the reflector has for now; the reflector is fed by run() until it has heard the end.
  void start(Reflector& reflector, base::Instant now);
  // Ends the reflector's request, if there is one, without a word to it.
  void cancel(const Reflector& reflector);
  // Waits for answers until `until` at most, and passes on what has come.
  void run(base::Instant until);
  // run() returns. Thread-safe.
  void wake();

 private:
  class Transfer;
  void end(Transfer& transfer, base::Instant now, const std::string& error);

  const ApiAccess access_;
  const std::string user_agent_;
  void* multi_;  // CURLM
  std::vector<std::unique_ptr<Transfer>> transfers_;
};

}  // namespace weir::kubernetes
