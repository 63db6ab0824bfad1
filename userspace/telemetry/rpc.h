// What is recorded of one RPC when its exchange ends, and of one relayed TCP
// connection: the input of the access log and of the metrics (recorder.h).
// Views and pointers are read during record() only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/clock.h"
#include "config/snapshot.h"

namespace weir::telemetry {

// Envoy's response flags, as far as weir sets them (semantics.md, "Local replies").
enum class Flag : uint32_t {
  UH = 1u << 0,    // no healthy upstream
  UF = 1u << 1,    // upstream connection failure
  UC = 1u << 2,    // upstream connection termination
  UR = 1u << 3,    // upstream remote reset
  LR = 1u << 4,    // local reset
  UO = 1u << 5,    // upstream overflow
  OM = 1u << 6,    // overload manager
  UT = 1u << 7,    // upstream request timeout
  URX = 1u << 8,   // retries exhausted
  NR = 1u << 9,    // no route
  NC = 1u << 10,   // no cluster
  UPE = 1u << 11,  // upstream protocol error
  DPE = 1u << 12,  // downstream protocol error
  DC = 1u << 13,   // downstream connection termination
  SI = 1u << 14,   // stream idle timeout; of a relayed connection, tcp.idleTimeout
  FI = 1u << 15,   // fault injected
  DI = 1u << 16,   // delay injected
  DT = 1u << 17,   // connection duration timeout
};

class Flags {
 public:
  Flags() = default;
  explicit Flags(uint32_t bits) : bits_(bits) {}
  void set(Flag flag) { bits_ |= static_cast<uint32_t>(flag); }
  bool has(Flag flag) const { return (bits_ & static_cast<uint32_t>(flag)) != 0; }
  bool empty() const { return bits_ == 0; }
  uint32_t bits() const { return bits_; }
  // "-" for none, else "UF,URX" in the order of the enum.
  std::string to_string() const;

 private:
  uint32_t bits_ = 0;
};

struct Rpc {
  base::Instant started;
  base::Instant ended;
  base::Instant upstream_headers;  // response HEADERS arrived; epoch if never
  std::string_view method, path, authority, user_agent, request_id, forwarded_for;
  std::string_view details;  // RESPONSE_CODE_DETAILS: "via_upstream", or why the reply is local
  std::string_view failure;  // UPSTREAM_TRANSPORT_FAILURE_REASON, empty for none
  int response_code = 0;     // 0: none was sent
  int grpc_status = -1;      // -1: none (not gRPC, or none arrived)
  bool grpc = false;
  Flags flags;
  uint64_t bytes_received = 0, bytes_sent = 0;           // bodies, downstream's view
  uint64_t request_messages = 0, response_messages = 0;  // gRPC messages
  uint32_t attempts = 0;
  const config::Pod* source = nullptr;                      // never null on the diverted path
  const config::Service* service = nullptr;                 // dialled
  const config::Cluster* cluster = nullptr;                 // null if none was chosen
  const config::Endpoint* endpoint = nullptr;               // of the last attempt; null if none was chosen
  base::SocketAddress downstream_local, downstream_remote;  // as the application sees them
  base::SocketAddress upstream_local;                       // port 0: none
};

// One relayed TCP connection.
struct TcpConnection {
  base::Instant started, ended;
  Flags flags;
  uint64_t bytes_received = 0, bytes_sent = 0;      // from and to downstream
  uint64_t counted_received = 0, counted_sent = 0;  // of these, what Recorder::progress() has counted
  const config::Pod* source = nullptr;
  const config::Service* service = nullptr;
  const config::Cluster* cluster = nullptr;    // null if the port has none
  const config::Endpoint* endpoint = nullptr;  // the last that was tried; null if none was
  std::string_view failure;                    // UPSTREAM_TRANSPORT_FAILURE_REASON, empty for none
  base::SocketAddress downstream_local, downstream_remote, upstream_local;
};

// What the access log's default mode is about: no answer, an error status, or a flag.
bool failed(const Rpc& rpc);

}  // namespace weir::telemetry
