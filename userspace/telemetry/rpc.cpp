#include "telemetry/rpc.h"

#include <array>

namespace weir::telemetry {
namespace {

constexpr std::array<const char*, 18> kNames = {"UH", "UF", "UC",  "UR",  "LR", "UO", "OM", "UT", "URX",
                                                "NR", "NC", "UPE", "DPE", "DC", "SI", "FI", "DI", "DT"};

}  // namespace

std::string Flags::to_string() const {
  if (empty()) return "-";
  std::string text;
  for (size_t bit = 0; bit < kNames.size(); ++bit) {
    if ((bits_ & (1u << bit)) == 0) continue;
    if (!text.empty()) text += ',';
    text += kNames[bit];
  }
  return text;
}

bool failed(const Rpc& rpc) {
  return !rpc.flags.empty() || rpc.response_code < 100 || rpc.response_code >= 400 ||
         (rpc.grpc && rpc.grpc_status != 0);
}

}  // namespace weir::telemetry
