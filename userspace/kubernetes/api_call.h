// A conversation with the API server, sans I/O: what to ask, when, and what to make of the answer. ApiTransfers does
// the asking.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace weir::kubernetes {

// What objects are wanted as. Metadata alone has a name of its own for lists; a server refuses the other one (406).
enum class ApiForm : uint8_t { whole, metadata, metadata_list };

struct ApiRequest {
  std::string target;  // path and query
  ApiForm form = ApiForm::whole;
  const char* method = "GET";
  std::string body = {};  // of another method
  const char* content_type = "application/json";
  base::Duration time_limit{0};  // of the whole answer; 0: none but silence()
};

// What a server's Retry-After counts for at most.
constexpr base::Duration kLongestRetryAfter = std::chrono::minutes(2);

class ApiCaller {
 public:
  virtual ~ApiCaller() = default;
  // When to begin the next request; nothing while one runs, or none is wanted.
  virtual std::optional<base::Instant> due() const = 0;
  virtual ApiRequest begin(base::Instant now) = 0;
  // The request has failed when nothing of use has come for so long ...
  virtual base::Duration silence() const = 0;
  // ... which is told by this number's standing still: bytes alone may be no more than a server that is hung.
  virtual uint64_t progress() const = 0;
  // The answer. on_bytes() is false when the rest is of no use.
  virtual void on_head(int status, std::optional<base::Duration> retry_after) = 0;
  virtual bool on_bytes(std::string_view bytes) = 0;
  // `error` is empty when the answer is complete.
  virtual void on_end(base::Instant now, const std::string& error) = 0;
};

}  // namespace weir::kubernetes
