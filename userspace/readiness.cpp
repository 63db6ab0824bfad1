#include "readiness.h"

#include <algorithm>
#include <cmath>

namespace weir {
namespace {

// What is wrong with the API server, by resource; empty: nothing.
std::string problems_of(const kubernetes::ApiSource& api, bool unsynced_only) {
  std::string problems;
  for (const kubernetes::ResourceStatus& resource : api.status()) {
    if (unsynced_only ? resource.synced : resource.problem.empty()) continue;
    problems += (problems.empty() ? "" : "; ") + resource.name + ": " +
                (resource.problem.empty() ? "not listed yet" : resource.problem);
  }
  return problems;
}

std::string in_seconds(double seconds) { return std::to_string(std::llround(seconds)) + " s ago"; }

std::string last_contact(const kubernetes::ApiSource& api) {
  double longest = 0;
  for (const kubernetes::ResourceStatus& resource : api.status()) {
    if (resource.last_contact == base::Instant() || resource.missing) continue;
    longest = std::max(longest, seconds_since(resource.last_contact));
  }
  return in_seconds(longest);
}

// "2 pods are not listened in: default/a (why), default/b (why)"; empty: there are none.
std::string unattended(const control::NodeStatus& status) {
  constexpr size_t kNamed = 5;
  size_t count = 0;
  std::string names;
  for (const interception::PodStatus& pod : status.pods) {
    if (!pod.is_unattended() || ++count > kNamed) continue;
    names += (names.empty() ? "" : ", ") + pod.pod->qualified_name() + " (" + pod.reason + ")";
  }
  if (count == 0) return {};
  if (count > kNamed) names += ", ...";
  return std::to_string(count) + (count == 1 ? " pod is" : " pods are") + " not listened in: " + names;
}

}  // namespace

std::string state_of(const kubernetes::ApiSource& api) {
  const std::string problems = problems_of(api, false);
  return problems.empty() ? "watching" : problems;
}

double seconds_since(base::Instant then) {
  return std::chrono::duration<double>(base::MonotonicClock::now() - then).count();
}

admin::Readiness readiness(const control::Node& node, const std::string& manifests) {
  const auto status = node.status();
  if (status->superseded) return {false, "another agent has taken over"};
  if (status->draining) return {false, "draining"};
  if (!status->begun && !node.api()) return {false, "starting"};
  if (!status->begun)
    return {false,
            "the configuration is not complete (" + node.api()->server() + "): " + problems_of(*node.api(), true)};
  if (!status->hooks_problem.empty()) return {false, "the BPF programs are not attached: " + status->hooks_problem};
  const std::string waiting = unattended(*status);
  if (!status->settled) return {false, waiting.empty() ? "starting" : waiting};

  admin::Readiness ready{true, "", {}};
  ready.details.push_back("configuration: revision " + std::to_string(status->snapshot->revision) + ", built " +
                          in_seconds(seconds_since(status->configured)));
  if (!manifests.empty()) ready.details.push_back("manifests " + manifests + ": watching");
  if (node.api())
    ready.details.push_back("API server " + node.api()->server() + ": last heard of " + last_contact(*node.api()) +
                            ", " + state_of(*node.api()));
  const auto enrolled = std::count_if(status->pods.begin(), status->pods.end(),
                                      [](const auto& pod) { return pod.state == interception::PodState::enrolled; });
  ready.details.push_back("pods: " + std::to_string(enrolled) + " listened in" +
                          (waiting.empty() ? "" : "; " + waiting));
  return ready;
}

}  // namespace weir
