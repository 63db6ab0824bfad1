// Rows of the BPF maps as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "base/address.h"
#include "interception/maps.h"
#include "weir/bpf_abi.h"

namespace weir::weirctl {

nlohmann::json to_json(const base::SocketAddress& address, const weir_service& row);
nlohmann::json to_json(uint64_t netns_cookie, const weir_pod& row);
// Null if its time is over.
nlohmann::json to_json(const interception::Maps::Verdict& verdict);

}  // namespace weir::weirctl
