// Finding: what is wrong, or worth knowing, about a configuration object, with
// the likely fix. The agent logs and serves them, weirctl analyze prints them.
#pragma once

#include <cstdint>
#include <string>

namespace weir::config {

enum class Severity : uint8_t { info, warning, error };

struct Finding {
  std::string code;  // stable, "WEIR0101"; the list is in kubernetes/findings.h
  Severity severity = Severity::warning;
  std::string file;    // empty when the object came from the API server
  int line = 0;        // 1-based, 0 unknown
  std::string object;  // "Service default/grpc-service", empty for a whole file
  std::string message;
  std::string fix;  // may be empty
  bool operator==(const Finding&) const = default;
};

const char* to_string(Severity severity);

}  // namespace weir::config
