// LogRecord: what an access-log line is made of, in owned bytes, and its two
// forms: Istio's default text format and its JSON keys. A worker fills a record
// (reused, so nothing is allocated once it has grown); the log's thread formats it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/clock.h"
#include "telemetry/rpc.h"

namespace weir::telemetry {

class LogRecord {
 public:
  enum Text : uint8_t {
    method,
    path,
    authority,
    user_agent,
    request_id,
    forwarded_for,
    details,
    failure,
    cluster,
    source_namespace,
    source_pod,
    destination_pod,
    service,  // FQDN of the dialled service
    kTexts,
  };

  // Overwrite the record. `unix_offset` is wall clock minus Instant.
  void fill(const Rpc& rpc, base::Duration unix_offset);
  void fill(const TcpConnection& connection, base::Duration unix_offset);

  std::string_view text(Text which) const;
  bool failed() const { return failed_; }
  Flags flags() const { return flags_; }
  uint64_t sequence = 0;  // given by the log, in order of arrival

  // One line each, without a newline. What clients control is escaped: a line stays one line.
  void append_text(std::string& out) const;
  void append_json(std::string& out) const;

 private:
  void set(Text which, std::string_view value);
  void fill_common(const config::Pod* source, const config::Service* dialled, const config::Endpoint* endpoint,
                   base::Instant started, base::Instant ended, base::Duration unix_offset);

  std::string bytes_;                        // the texts, one after the other
  std::array<uint32_t, kTexts + 1> ends_{};  // text i is bytes_[ends_[i], ends_[i + 1])
  base::Duration started_{};                 // since the Unix epoch
  int64_t duration_ms_ = 0;
  int64_t upstream_ms_ = -1;  // request begun to response HEADERS; -1: none came
  int response_code_ = 0;
  int grpc_status_ = -1;
  bool tcp_ = false;
  bool failed_ = false;
  Flags flags_;
  uint64_t bytes_received_ = 0, bytes_sent_ = 0;
  uint32_t attempts_ = 0;
  base::SocketAddress upstream_host_, upstream_local_, downstream_local_, downstream_remote_;
};

}  // namespace weir::telemetry
