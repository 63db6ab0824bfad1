#include <algorithm>
#include <charconv>
#include <iterator>

#include "kubernetes/own_keys.h"
#include "kubernetes/translate_parts.h"

namespace weir::kubernetes {
namespace {

constexpr std::string_view kDataplane = "weir.dev/dataplane";
constexpr std::string_view kFailPolicy = "weir.dev/fail-policy";
constexpr std::string_view kRedirect = "weir.dev/redirect";
// As many as a row of the BPF map holds (WEIR_MAX_EXCLUDED_PORTS).
constexpr size_t kMaxExcludedPorts = 16;

const std::string* look_up(const Labels& labels, std::string_view key) {
  auto found = labels.find(key);
  return found == labels.end() ? nullptr : &found->second;
}

// The pod's own value, else its namespace's.
const std::string* inherited(const Labels& own, const Labels* outer, std::string_view key) {
  if (const std::string* value = look_up(own, key)) return value;
  return outer ? look_up(*outer, key) : nullptr;
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](auto prefix) { return text.starts_with(prefix); });
}

class PodTranslation {
 public:
  PodTranslation(const Pod& pod, const Namespace* home, std::vector<config::Finding>& findings)
      : pod_(pod), home_(home), findings_(findings) {}

  config::Pod run() {
    const Metadata& metadata = pod_.metadata;
    result_.namespace_name = metadata.namespace_name;
    result_.name = metadata.name;
    result_.uid = metadata.uid;
    result_.node_name = pod_.node_name;
    result_.service_account = pod_.service_account;
    result_.ips = pod_.ips;
    result_.labels = metadata.labels;
    result_.annotations = metadata.annotations;
    read_dataplane();
    read_excluded_ports("weir.dev/exclude-outbound-ports");
    read_excluded_ports("traffic.sidecar.istio.io/excludeOutboundPorts");
    read_fail_policy();
    read_redirect();
    std::ranges::move(unread_keys({Kind::pod, metadata.namespace_name, metadata.name}, metadata),
                      std::back_inserter(findings_));
    result_.refusal = refusal();
    if (!result_.refusal.empty() && result_.dataplane != config::Dataplane::disabled) {
      report(Code::pod_refused, "is labelled for weir but cannot be enrolled: it " + result_.refusal);
    }
    return std::move(result_);
  }

 private:
  void report(Code code, std::string message, std::string fix = {}) {
    ObjectKey key{Kind::pod, pod_.metadata.namespace_name, pod_.metadata.name};
    findings_.push_back(finding(code, pod_.metadata.origin, key.to_string(), std::move(message), std::move(fix)));
  }

  void read_dataplane() {
    const std::string* value = inherited(pod_.metadata.labels, home_ ? &home_->metadata.labels : nullptr, kDataplane);
    if (!value || *value == "disabled") return;
    if (*value == "enabled") {
      result_.dataplane = config::Dataplane::enabled;
    } else if (*value == "observe") {
      result_.dataplane = config::Dataplane::observe;
    } else {
      report(Code::unknown_label_value, "the label weir.dev/dataplane is " + shown(*value) + ", taken for disabled",
             "use enabled, observe or disabled");
    }
  }

  void read_fail_policy() {
    const std::string* value =
        inherited(pod_.metadata.annotations, home_ ? &home_->metadata.annotations : nullptr, kFailPolicy);
    if (!value || *value == "open") return;
    if (*value == "closed") {
      result_.fail_closed = true;
    } else {
      report(Code::unknown_label_value, "the annotation weir.dev/fail-policy is " + shown(*value) + ", taken for open",
             "use open or closed");
    }
  }

  void read_redirect() {
    const std::string* value =
        inherited(pod_.metadata.annotations, home_ ? &home_->metadata.annotations : nullptr, kRedirect);
    if (!value || *value == "on") return;
    if (*value == "off") {
      result_.redirect = false;
    } else {
      report(Code::unknown_label_value, "the annotation weir.dev/redirect is " + shown(*value) + ", taken for on",
             "use \"on\" or \"off\"");
    }
  }

  void read_excluded_ports(std::string_view annotation) {
    const std::string* value = look_up(pod_.metadata.annotations, annotation);
    if (!value) return;
    for_each_entry(*value, [&](std::string_view item) {
      uint16_t port = 0;
      auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), port);
      if (error != std::errc() || end != item.data() + item.size() || port == 0) {
        report(Code::bad_port_list,
               "the annotation " + std::string(annotation) + " has " + shown(item) + ", which is no port",
               "list port numbers, separated by commas");
        return;
      }
      auto& ports = result_.excluded_ports;
      auto at = std::lower_bound(ports.begin(), ports.end(), port);
      if (at == ports.end() || *at != port) ports.insert(at, port);
    });
  }

  // A pod whose own rules would catch the agent's sockets, or whose sockets the agent cannot share.
  std::string refusal() const {
    if (pod_.host_network) return "uses the host's network";
    for (const std::string& container : pod_.containers) {
      if (container == "istio-proxy" || container == "linkerd-proxy") return "has the container " + container;
    }
    constexpr std::string_view kAmbient = "istio.io/dataplane-mode";
    const std::string* mode = inherited(pod_.metadata.labels, home_ ? &home_->metadata.labels : nullptr, kAmbient);
    if (mode && *mode == "ambient") return "is in Istio's ambient mesh (istio.io/dataplane-mode: ambient)";
    if (starts_with_any(pod_.runtime_class, {"gvisor", "runsc", "kata"})) {
      return "has the sandboxed runtime " + shown(pod_.runtime_class);
    }
    if (result_.excluded_ports.size() > kMaxExcludedPorts) {
      return "excludes more than " + std::to_string(kMaxExcludedPorts) + " ports";
    }
    if (pod_.metadata.uid.empty()) return "has no metadata.uid, by which its cgroup is found";
    return {};
  }

  const Pod& pod_;
  const Namespace* home_;
  std::vector<config::Finding>& findings_;
  config::Pod result_;
};

}  // namespace

config::Pod translate_pod(const Pod& pod, const Namespace* home, std::vector<config::Finding>& findings) {
  return PodTranslation(pod, home, findings).run();
}

}  // namespace weir::kubernetes
