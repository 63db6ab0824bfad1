#include "proxy/verdicts.h"

namespace weir::proxy {
namespace {
constexpr size_t kMostPorts = 4096;  // of one pod; beyond them all is forgotten, and learned anew
}

void Verdicts::opaque(const base::SocketAddress& vip, const std::string& service, base::Instant now) {
  if (options_.after == 0) return;
  if (in_a_row_.size() >= kMostPorts && !in_a_row_.contains(vip)) in_a_row_.clear();
  Row& row = in_a_row_[vip];
  if (row.service != service) row = {service, 0};
  if (row.connections < options_.after) ++row.connections;
  if (row.connections == options_.after) rows_.learn(netns_cookie_, vip, now + options_.lifetime);
}

void Verdicts::http2(const base::SocketAddress& vip) {
  in_a_row_.erase(vip);
  if (options_.after > 0) rows_.forget(netns_cookie_, vip);  // an agent before this one may have learned it
}

}  // namespace weir::proxy
