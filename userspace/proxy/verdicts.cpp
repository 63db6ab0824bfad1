#include "proxy/verdicts.h"

namespace weir::proxy {
namespace {
constexpr size_t kMostPorts = 4096;  // of one pod; beyond them all is forgotten, and learned anew
constexpr auto kTimeWait = std::chrono::seconds(60);
}  // namespace

void Verdicts::opaque(const base::SocketAddress& vip, const std::string& service, base::Instant now) {
  if (options_.after == 0) return;
  if (in_a_row_.size() >= kMostPorts && !in_a_row_.contains(vip)) in_a_row_.clear();
  Row& row = in_a_row_[vip];
  if (row.service != service) row = {service, 0};
  row.last = now;
  if (row.connections < options_.after) ++row.connections;
  if (row.connections == options_.after) rows_.learn(netns_cookie_, vip, now + options_.lifetime);
}

void Verdicts::http2(const base::SocketAddress& vip) {
  in_a_row_.erase(vip);
  if (options_.after > 0) rows_.forget(netns_cookie_, vip);  // an agent before this one may have learned it
}

bool Verdicts::sets_apart(const base::SocketAddress& vip, const std::string& service, base::Instant now) {
  const auto row = in_a_row_.find(vip);
  if (row == in_a_row_.end() || row->second.service != service) return false;
  // What passed by at the end of the verdict's time has left servers in TIME_WAIT.
  if (now - row->second.last >= options_.lifetime + kTimeWait) return false;
  if (now - minute_ >= kTimeWait) {
    minute_ = now;
    apart_ = 0;
  }
  return ++apart_ <= kMostApart;
}

}  // namespace weir::proxy
