// All pods of the store.
#include <unordered_set>

#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

class PodsTranslation {
 public:
  PodsTranslation(const ObjectStore& store, const ClusterSettings& settings, const config::Snapshot* previous,
                  std::vector<config::Finding>& findings)
      : store_(store), settings_(settings), previous_(previous), findings_(findings) {}

  void run() {
    std::map<std::string_view, const Namespace*> namespaces;
    store_.for_each<Namespace>([&](const Namespace& home) { namespaces.emplace(home.metadata.name, &home); });
    store_.for_each<Pod>([&](const Pod& pod) {
      // A finished pod's address may be another's by now.
      if (pod.phase == PodPhase::succeeded || pod.phase == PodPhase::failed) return;
      const bool here = is_here(pod);
      if (!here && pod.ips.empty()) return;  // it is known by its labels alone
      auto home = namespaces.find(pod.metadata.namespace_name);
      std::vector<config::Finding> of_pod;
      auto result = shared_pod(translate_pod(pod, home == namespaces.end() ? nullptr : home->second, of_pod), pod);
      if (here) {
        pods_.push_back(result);
        std::move(of_pod.begin(), of_pod.end(), std::back_inserter(findings_));
      }
      if (pod.host_network) return;
      for (const base::IpAddress& ip : pod.ips) add_address(ip, pod, result);
    });
  }

  std::vector<std::shared_ptr<const config::Pod>> pods_;
  std::shared_ptr<config::PodsByAddress> by_address_ = std::make_shared<config::PodsByAddress>();

 private:
  // Files may leave out what the scheduler would have filled in.
  bool is_here(const Pod& pod) const {
    if (settings_.node_name.empty() || pod.node_name == settings_.node_name) return true;
    return pod.node_name.empty() && !pod.metadata.origin.file.empty();
  }

  // Pods of other nodes are found by their address only.
  std::shared_ptr<const config::Pod> shared_pod(config::Pod pod, const Pod& source) const {
    auto before = find_previous(previous_ ? &previous_->pods : nullptr, source.metadata);
    if (!before && previous_ && !source.ips.empty()) {
      const auto found = previous_->pods_by_address->find(source.ips.front());
      if (found != previous_->pods_by_address->end()) before = found->second;
    }
    if (before && *before == pod) return before;
    return std::make_shared<const config::Pod>(std::move(pod));
  }

  void add_address(const base::IpAddress& ip, const Pod& pod, const std::shared_ptr<const config::Pod>& result) {
    auto [holder, fresh] = by_address_->emplace(ip, result);
    if (fresh) {
      if (pod.metadata.deleting) leaving_.insert(ip);
      return;
    }
    if (pod.metadata.deleting) return;
    if (leaving_.erase(ip) > 0) {
      holder->second = result;
      return;
    }
    const ObjectKey key{Kind::pod, pod.metadata.namespace_name, pod.metadata.name};
    findings_.push_back(
        finding(Code::address_used_twice, pod.metadata.origin, key.to_string(),
                "the address " + ip.to_string() + " belongs to Pod " + holder->second->qualified_name() + " already"));
  }

  const ObjectStore& store_;
  const ClusterSettings& settings_;
  const config::Snapshot* previous_;
  std::vector<config::Finding>& findings_;
  std::unordered_set<base::IpAddress> leaving_;  // addresses held so far by a pod that is being deleted
};

}  // namespace

std::pair<std::vector<std::shared_ptr<const config::Pod>>, std::shared_ptr<const config::PodsByAddress>> translate_pods(
    const ObjectStore& store, const ClusterSettings& settings, const config::Snapshot* previous,
    std::vector<config::Finding>& findings) {
  PodsTranslation translation(store, settings, previous, findings);
  translation.run();
  return {std::move(translation.pods_), std::move(translation.by_address_)};
}

}  // namespace weir::kubernetes
