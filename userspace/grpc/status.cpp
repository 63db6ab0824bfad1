#include "grpc/status.h"

#include <algorithm>
#include <array>

namespace weir::grpc {
namespace {

struct Row {
  std::string_view name;
  std::string_view number;
};

constexpr std::array<Row, kStatuses> kRows = {{
    {"OK", "0"},
    {"CANCELLED", "1"},
    {"UNKNOWN", "2"},
    {"INVALID_ARGUMENT", "3"},
    {"DEADLINE_EXCEEDED", "4"},
    {"NOT_FOUND", "5"},
    {"ALREADY_EXISTS", "6"},
    {"PERMISSION_DENIED", "7"},
    {"RESOURCE_EXHAUSTED", "8"},
    {"FAILED_PRECONDITION", "9"},
    {"ABORTED", "10"},
    {"OUT_OF_RANGE", "11"},
    {"UNIMPLEMENTED", "12"},
    {"INTERNAL", "13"},
    {"UNAVAILABLE", "14"},
    {"DATA_LOSS", "15"},
    {"UNAUTHENTICATED", "16"},
}};

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

}  // namespace

std::string_view name(Status status) { return kRows[static_cast<size_t>(status)].name; }
std::string_view number(Status status) { return kRows[static_cast<size_t>(status)].number; }

std::optional<Status> status_of_name(std::string_view text) {
  for (size_t i = 0; i < kRows.size(); ++i) {
    const std::string_view candidate = kRows[i].name;
    if (std::equal(text.begin(), text.end(), candidate.begin(), candidate.end(),
                   [](char a, char b) { return upper(a) == b; })) {
      return static_cast<Status>(i);
    }
  }
  return std::nullopt;
}

std::optional<Status> parse_status(std::string_view value) {
  if (value.empty() || value.size() > 9 || (value.size() > 1 && value[0] == '0')) return std::nullopt;
  int n = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return std::nullopt;
    n = n * 10 + (c - '0');
  }
  return n < kStatuses ? static_cast<Status>(n) : Status::unknown;
}

Status status_of_http(int http_status) {
  switch (http_status) {
    case 400:
      return Status::internal;
    case 401:
      return Status::unauthenticated;
    case 403:
      return Status::permission_denied;
    case 404:
      return Status::unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return Status::unavailable;
    default:
      return Status::unknown;
  }
}

}  // namespace weir::grpc
