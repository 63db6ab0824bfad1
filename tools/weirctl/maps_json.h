// Rows of the BPF maps as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "base/address.h"
#include "interception/maps.h"
#include "weir/bpf_abi.h"

namespace weir::weirctl {

// `brake`: whether the operator's is on.
nlohmann::json to_json(const base::SocketAddress& address, const weir_service& row, bool brake);
nlohmann::json to_json(uint64_t netns_cookie, const weir_pod& row, bool brake);
// Null if its time is over.
nlohmann::json to_json(const interception::Maps::Verdict& verdict);

}  // namespace weir::weirctl
