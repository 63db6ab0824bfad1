#include "interception/adoption.h"

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "interception/tcp_diag.h"

namespace weir::interception {
namespace {

bool is_idle(const TcpSocket& socket, base::Duration min_idle) {
  return socket.unread == 0 && socket.unacknowledged == 0 && socket.idle >= min_idle;
}

bool is_selected(const config::Pod& pod, const UnmanagedSelection& selection) {
  return (selection.namespace_name.empty() || selection.namespace_name == pod.namespace_name) &&
         (selection.pod.empty() || selection.pod == pod.qualified_name());
}

bool is_selected(const config::Service& service, const UnmanagedSelection& selection) {
  return selection.service.empty() || selection.service == service.namespace_name + "/" + service.name;
}

}  // namespace

const char* to_string(AdoptResult result) {
  switch (result) {
    case AdoptResult::closed:
      return "closed";
    case AdoptResult::gone:
      return "gone";
    case AdoptResult::managed:
      return "managed";
    case AdoptResult::active:
      break;
  }
  return "active";
}

UnmanagedList Adoption::list(std::span<const PodStatus> pods, const std::shared_ptr<const config::Snapshot>& snapshot,
                             const UnmanagedSelection& selection) const {
  UnmanagedList out;
  const auto look_at = [&](const PodStatus& pod) -> base::Result<void> {
    auto filter = UnmanagedFilter::make(rows_, pod.netns_cookie, agent_cgroup_, snapshot);
    if (!filter) return filter.error();
    if (!filter->has_any()) return {};
    auto diag = TcpDiag::open(*pod.netns);
    if (!diag) return diag.error();
    diag->start_list();
    while (!out.truncated) {
      auto end = diag->step([&](const TcpSocket& socket) {
        auto target = filter->target_of(socket);
        if (!target || !is_selected(*target->service, selection)) return;
        out.truncated = out.connections.size() == kMostListed;
        if (!out.truncated) out.connections.push_back({pod.pod, std::move(*target), socket});
      });
      if (!end) return end.error();
      if (*end == NetlinkEnd::last) break;
    }
    return {};
  };
  for (const PodStatus& pod : pods) {
    if (pod.state != PodState::enrolled || !is_selected(*pod.pod, selection)) continue;
    if (auto looked = look_at(pod); !looked)
      out.problems.push_back(pod.pod->qualified_name() + ": " + looked.error().message);
  }
  return out;
}

base::Result<AdoptResult> Adoption::adopt(std::span<const PodStatus> pods,
                                          const std::shared_ptr<const config::Snapshot>& snapshot,
                                          const AdoptRequest& request) {
  const auto pod = std::find_if(pods.begin(), pods.end(),
                                [&](const PodStatus& status) { return status.pod->uid == request.pod_uid; });
  // A pod that has ended took its connections with it.
  auto result = pod == pods.end() ? AdoptResult::gone : try_adopt(*pod, snapshot, request);
  if (result) ++counts_[static_cast<size_t>(result.value())];
  return result;
}

base::Result<AdoptResult> Adoption::try_adopt(const PodStatus& pod,
                                              const std::shared_ptr<const config::Snapshot>& snapshot,
                                              const AdoptRequest& request) const {
  if (pod.state != PodState::enrolled) return AdoptResult::managed;
  auto filter = UnmanagedFilter::make(rows_, pod.netns_cookie, agent_cgroup_, snapshot);
  if (!filter) return filter.error();
  auto diag = TcpDiag::open(*pod.netns);
  if (!diag) return diag.error();
  const auto gone = [](const base::Error& error) -> base::Result<AdoptResult> {
    if (error.code == ENOENT) return AdoptResult::gone;
    return error;
  };
  const auto socket = diag->find(request.id);
  if (!socket) return gone(socket.error());
  if (!filter->target_of(socket.value())) return AdoptResult::managed;
  if (!request.active && !is_idle(socket.value(), request.min_idle)) return AdoptResult::active;
  if (auto destroyed = diag->destroy(request.id); !destroyed) {
    if (destroyed.error().code != EOPNOTSUPP) return gone(destroyed.error());
    return base::Error{"this kernel can't close connections of others: it was built without CONFIG_INET_DIAG_DESTROY",
                       EOPNOTSUPP};
  }
  base::log::info("adopt: pod {}: closed {} -> {}, idle for {:.1f} s", pod.pod->qualified_name(),
                  request.id.local.to_string(), request.id.remote.to_string(),
                  std::chrono::duration<double>(socket.value().idle).count());
  return AdoptResult::closed;
}

}  // namespace weir::interception
