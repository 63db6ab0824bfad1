// The pair of listeners that a pod's diverted connections arrive at: 127.0.0.1
// and [::1] on one port number, inside the pod's network namespace.
#pragma once

#include <cstdint>

#include "base/fd.h"
#include "base/result.h"
#include "interception/network_namespace.h"

namespace weir::interception {

struct LoopbackListeners {
  uint16_t port = 0;
  base::Fd v4;  // listening, non-blocking
  base::Fd v6;  // empty where the namespace has no ::1
};

// Tries ports from `first` on, going round from 65535 to `lowest`, until both families have it. Gives up after
// kPortsPerAttempt occupied ones (EADDRINUSE), which is the whole default range: tens of milliseconds. ENETDOWN: the
// loopback device is not up yet.
constexpr int kPortsPerAttempt = 65536 - 61000;
base::Result<LoopbackListeners> open_loopback_listeners(const NetworkNamespace& netns, uint16_t first, uint16_t lowest);

}  // namespace weir::interception
