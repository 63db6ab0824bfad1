// The codes of findings: one table with each code's severity and meaning, and
// the one way to make a finding. Codes are stable: people filter and link by them.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "config/finding.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

enum class Code : uint8_t {
  unreadable_directory,
  unreadable_file,
  too_large,
  malformed,
  limit_exceeded,
  duplicate_key,
  not_an_object,
  more_findings,
  wrong_type,
  missing_field,
  bad_value,
  bad_address,
  defined_twice,
  wrong_api_version,
  not_applied_yet,
  not_enforced,
  ignored_kind,
  misspelt_api_group,
  doubled_cluster_domain,
  undeclared_protocol,
  no_cluster_ip,
  address_used_twice,
  setting_not_applied,
  no_matching_slice_port,
  unknown_own_node,
  unused_slice,
  unknown_own_zone,
  rules_need_http2,
  foreign_endpoint,
  too_many_addresses,
  unknown_label_value,
  pod_refused,
  bad_port_list,
  unread_key,
  route_not_applied,
  policy_not_applied,
  unknown_retry_condition,
  unknown_host,
  unknown_subset,
  host_claimed_twice,
  subset_defined_twice,
  tls_not_available,
  streams_without_connections,
  bad_header_operation,
  repeated_destination,
  retries_may_repeat,
  gateways_only,
};

struct CodeMeaning {
  Code code;
  std::string_view id;
  config::Severity severity;
  std::string_view meaning;
};

// In the order of enum Code.
inline constexpr std::array<CodeMeaning, 47> kCodes{{
    // Files and documents
    {Code::unreadable_directory, "WEIR0001", config::Severity::error,
     "the manifests directory cannot be read; the last good configuration stays"},
    {Code::unreadable_file, "WEIR0002", config::Severity::error,
     "a manifest file cannot be read; the last good version of its objects stays"},
    {Code::too_large, "WEIR0003", config::Severity::error, "a manifest file is larger than weir reads"},
    {Code::malformed, "WEIR0004", config::Severity::error, "a document is not well-formed YAML or JSON"},
    {Code::limit_exceeded, "WEIR0005", config::Severity::error,
     "a document is nested too deeply or has too many nodes, aliases expanded"},
    {Code::duplicate_key, "WEIR0006", config::Severity::error, "a mapping has the same key twice"},
    {Code::not_an_object, "WEIR0007", config::Severity::warning,
     "a document is not a Kubernetes object (kind and apiVersion are missing)"},
    {Code::more_findings, "WEIR0008", config::Severity::info,
     "an object or a file has more findings than are listed; as severe as the worst of them"},
    // Objects
    {Code::wrong_type, "WEIR0101", config::Severity::error, "a field has the wrong type; the object is rejected"},
    {Code::missing_field, "WEIR0102", config::Severity::error, "a required field is missing; the object is rejected"},
    {Code::bad_value, "WEIR0103", config::Severity::error,
     "a field's value is out of range or not allowed; the object is rejected"},
    {Code::bad_address, "WEIR0104", config::Severity::error, "an IP address is not one; the object is rejected"},
    {Code::defined_twice, "WEIR0105", config::Severity::warning,
     "an object is defined more than once; the first by file name counts"},
    {Code::wrong_api_version, "WEIR0106", config::Severity::error,
     "an object's apiVersion is not one that has its kind; the object is rejected"},
    // Kinds
    {Code::not_applied_yet, "WEIR0201", config::Severity::warning, "a kind that weir does not apply yet"},
    {Code::not_enforced, "WEIR0202", config::Severity::error, "a security policy that weir does not enforce"},
    {Code::ignored_kind, "WEIR0203", config::Severity::info, "a kind of the mesh that weir ignores"},
    {Code::misspelt_api_group, "WEIR0204", config::Severity::warning,
     "an API group that does not exist, taken for the one that was probably meant"},
    {Code::doubled_cluster_domain, "WEIR0205", config::Severity::warning,
     "a host ends .svc.cluster.cluster.local and so names no service"},
    // Services
    {Code::undeclared_protocol, "WEIR0301", config::Severity::info, "a port's protocol is not declared"},
    {Code::no_cluster_ip, "WEIR0302", config::Severity::info, "a Service has no clusterIP, so nothing is diverted"},
    {Code::address_used_twice, "WEIR0303", config::Severity::warning,
     "two Services or two Pods claim the same address; a clusterIP goes before an endpoint, then the first by name has "
     "it"},
    {Code::setting_not_applied, "WEIR0304", config::Severity::info,
     "a setting of a Service or EndpointSlice that weir does not apply yet"},
    {Code::no_matching_slice_port, "WEIR0305", config::Severity::warning,
     "no EndpointSlice port has the name of the Service's port, so the port has no endpoints"},
    {Code::unknown_own_node, "WEIR0306", config::Severity::warning,
     "internalTrafficPolicy Local needs the agent's node name, which is not set"},
    {Code::unused_slice, "WEIR0307", config::Severity::info, "an EndpointSlice that no Service uses"},
    {Code::unknown_own_zone, "WEIR0308", config::Severity::warning,
     "zone hints need the agent's zone, which is not set"},
    {Code::rules_need_http2, "WEIR0309", config::Severity::info,
     "a VirtualService has http rules for a port whose connections need not be HTTP/2, the only ones that obey them"},
    {Code::foreign_endpoint, "WEIR0310", config::Severity::warning,
     "a headless Service lists addresses that nothing says are pods of its namespace; they are not diverted"},
    {Code::too_many_addresses, "WEIR0311", config::Severity::warning,
     "a headless Service has more addresses than are diverted"},
    // Pods
    {Code::unknown_label_value, "WEIR0401", config::Severity::warning,
     "a weir.dev label or annotation has an unknown value"},
    {Code::pod_refused, "WEIR0402", config::Severity::warning, "a Pod asks for weir and cannot have it"},
    {Code::bad_port_list, "WEIR0403", config::Severity::warning,
     "an annotation that lists ports has an entry that is no port"},
    {Code::unread_key, "WEIR0404", config::Severity::warning,
     "a weir.dev label or annotation that means nothing on its object: misspelt, or meant for another"},
    // VirtualServices and DestinationRules
    {Code::route_not_applied, "WEIR0501", config::Severity::warning,
     "a part of a VirtualService that weir does not apply, or that says nothing"},
    {Code::policy_not_applied, "WEIR0502", config::Severity::warning,
     "a part of a DestinationRule or of the mesh's configuration that weir does not apply yet"},
    {Code::unknown_retry_condition, "WEIR0503", config::Severity::warning,
     "retryOn has a name that is no condition; it is ignored"},
    {Code::unknown_host, "WEIR0504", config::Severity::warning,
     "a host of a VirtualService or DestinationRule is no Service"},
    {Code::unknown_subset, "WEIR0505", config::Severity::error,
     "a route goes to a subset that no DestinationRule defines; its calls fail with NC"},
    {Code::host_claimed_twice, "WEIR0506", config::Severity::warning,
     "several VirtualServices name one host of the mesh; the oldest wins whole"},
    {Code::subset_defined_twice, "WEIR0507", config::Severity::warning, "a subset is defined twice; the first counts"},
    {Code::tls_not_available, "WEIR0508", config::Severity::error,
     "a DestinationRule asks for TLS to its endpoints, which weir does not have; the calls fail"},
    {Code::streams_without_connections, "WEIR0509", config::Severity::info,
     "maxConcurrentStreams without maxConnections only opens more connections"},
    {Code::bad_header_operation, "WEIR0510", config::Severity::error,
     "a header operation or rewrite of a VirtualService that HTTP/2 does not allow; it is left out"},
    {Code::repeated_destination, "WEIR0511", config::Severity::warning,
     "a route has the same destination twice; their weights add up"},
    {Code::retries_may_repeat, "WEIR0512", config::Severity::warning,
     "retries of a VirtualService may repeat calls that a server has processed, and no method is declared idempotent"},
    {Code::gateways_only, "WEIR0513", config::Severity::info,
     "a VirtualService is for gateways only, which weir does not serve yet"},
}};

constexpr config::Severity severity_of(Code code) { return kCodes[static_cast<size_t>(code)].severity; }
config::Finding finding(Code code, const Origin& origin, std::string object, std::string message, std::string fix = {});

// The first `limit` findings about something; of those beyond only their number is kept.
class FindingList {
 public:
  explicit FindingList(size_t limit) : limit_(limit) {}
  bool full() const { return findings_.size() >= limit_; }
  void add(config::Finding finding);
  void leave_out(config::Severity severity);
  // The list, which is empty then. If some were left out, one more at its end says how many.
  std::vector<config::Finding> take(const Origin& origin, std::string object);

 private:
  size_t limit_;
  std::vector<config::Finding> findings_;
  size_t left_out_ = 0;
  config::Severity worst_ = config::Severity::info;  // of those left out
};

// As the admin socket and `weirctl -o json` give it (weir/admin_api.h).
nlohmann::json to_json(const config::Finding& finding);

// Text from a manifest as it may appear in a message: quoted, cut short, control characters escaped.
std::string shown(std::string_view text);

}  // namespace weir::kubernetes
