// ApiTransfers runs the callers' requests, several at a time over one connection where the server has HTTP/2
// (libcurl multi). A connection on which an answer stays away is given up with all that runs on it, so that whoever
// asks again does so on another one: behind a load balancer it may lead to another server. One thread, but for wake().
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kubernetes/api_access.h"
#include "kubernetes/api_call.h"

namespace weir::kubernetes {

class ApiTransfers {
 public:
  ApiTransfers(ApiAccess access, std::string user_agent);
  ~ApiTransfers();
  ApiTransfers(const ApiTransfers&) = delete;
  ApiTransfers& operator=(const ApiTransfers&) = delete;

  // Begins the request that the caller has for now; the caller is fed by run() until it has heard the end.
  void start(ApiCaller& caller, base::Instant now);
  // Ends the caller's request, if there is one, without a word to it.
  void cancel(const ApiCaller& caller);
  // Waits for answers until `until` at most, and passes on what has come.
  void run(base::Instant until);
  // run() returns. Thread-safe.
  void wake();

 private:
  class Transfer;
  void end(Transfer& transfer, base::Instant now, const std::string& error);
  void end_late(Transfer& transfer, base::Instant now, const std::string& error);
  void end_silent(base::Instant now);
  // Of the transfer's connection. What runs on it besides fails as well, and libcurl forgets it.
  void shut_down(const Transfer& transfer) const;
  bool alone(const Transfer& transfer) const;

  const ApiAccess access_;
  const std::string user_agent_;
  void* multi_;            // CURLM
  std::set<int> sockets_;  // that are open: libcurl tells of a running request only its connection's port
  std::vector<std::unique_ptr<Transfer>> transfers_;
  std::set<const ApiCaller*> distrustful_;  // whose next request gets a new connection
};

}  // namespace weir::kubernetes
