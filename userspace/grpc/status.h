// gRPC status codes: their names, how they stand in grpc-status, and what an HTTP
// status means to a gRPC client (doc/http-grpc-status-mapping.md of the gRPC project).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace weir::grpc {

enum class Status : uint8_t {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};
inline constexpr int kStatuses = 17;

// "UNAVAILABLE".
std::string_view name(Status status);
// The inverse of name(), in any case, as Istio's manifests write it ("unavailable").
std::optional<Status> status_of_name(std::string_view name);
// The value of grpc-status: a decimal number without sign or leading zeros. Numbers above 16 are
// unknown(2), as gRPC clients take them; nullopt is no number at all.
std::optional<Status> parse_status(std::string_view value);
// "14": the value of grpc-status.
std::string_view number(Status status);
// What a response without grpc-status means.
Status status_of_http(int http_status);

}  // namespace weir::grpc
