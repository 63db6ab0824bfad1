#include "control/verdict_rows.h"

#include "base/log.h"

namespace weir::control {
namespace {
uint64_t nanoseconds(base::Instant instant) { return static_cast<uint64_t>(instant.time_since_epoch().count()); }
}  // namespace

VerdictMap VerdictMap::of(const interception::Maps& maps) {
  VerdictMap map;
  map.set = [&maps](uint64_t netns_cookie, const base::SocketAddress& vip, const weir_verdict& row) {
    return maps.set_verdict(netns_cookie, vip, row);
  };
  map.remove = [&maps](uint64_t netns_cookie, const base::SocketAddress& vip) {
    return maps.remove_verdict(netns_cookie, vip);
  };
  map.list = [&maps] { return maps.verdicts(); };
  return map;
}

void VerdictRows::learn(uint64_t netns_cookie, const base::SocketAddress& vip, base::Instant expires,
                        uint32_t sample_every) {
  if (auto set = map_.set(netns_cookie, vip, {nanoseconds(expires), 0, sample_every, 0}); !set) failed(set.error());
}

void VerdictRows::forget(uint64_t netns_cookie, const base::SocketAddress& vip) {
  if (auto removed = map_.remove(netns_cookie, vip); !removed) failed(removed.error());
}

void VerdictRows::end(const std::unordered_set<base::SocketAddress>& vips) {
  if (vips.empty()) return;
  const auto verdicts = map_.list();
  if (!verdicts) return failed(verdicts.error());
  for (auto [cookie, vip, row] : verdicts.value()) {
    if (row.expires_ns == 0 || !vips.contains(vip)) continue;
    row.expires_ns = 0;
    if (auto set = map_.set(cookie, vip, row); !set) failed(set.error());
  }
}

void VerdictRows::sweep(const std::unordered_set<uint64_t>& netns_cookies, base::Instant now) {
  told_ = false;
  const auto verdicts = map_.list();
  if (!verdicts) return failed(verdicts.error());
  const bool crowded = verdicts.value().size() > kMostKept;
  for (const auto& [cookie, vip, row] : verdicts.value()) {
    const bool over = row.expires_ns <= nanoseconds(now);
    if (netns_cookies.contains(cookie) && !(crowded && over)) continue;
    if (auto removed = map_.remove(cookie, vip); !removed) return failed(removed.error());
  }
}

// Connections go through the agent where no verdict could be written: nothing but time is lost, and a full map would be
// told of by every one of them.
void VerdictRows::failed(const base::Error& error) {
  ++failures_;
  if (!told_.exchange(true))
    base::log::warn("{}: what is known of undeclared ports is not in use (weir_verdict_failures_total counts more)",
                    error.message);
}

}  // namespace weir::control
