#include "kubernetes/event_object.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>

#include "kubernetes/findings.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr char kComponent[] = "weir";
constexpr size_t kMaxMessage = 1024;
constexpr size_t kMaxObjectName = 200;  // in the Event's, which may have 253

constexpr std::string_view kRejected = "Rejected", kConflict = "Conflict";
constexpr std::pair<Code, std::string_view> kReasons[] = {
    {Code::malformed, kRejected},
    {Code::wrong_type, kRejected},
    {Code::missing_field, kRejected},
    {Code::bad_value, kRejected},
    {Code::bad_address, kRejected},
    {Code::wrong_api_version, kRejected},
    {Code::bad_header_operation, kRejected},
    {Code::address_used_twice, kConflict},
    {Code::host_claimed_twice, kConflict},
    {Code::subset_defined_twice, kConflict},
    {Code::not_enforced, kNotEnforced},
};

bool every_agent_knows(Kind kind) {
  return kind != Kind::pod && kind != Kind::node && kind != Kind::daemon_set && kind != Kind::namespace_;
}

// SHA-256, of which 64 bits are enough to tell the Events of one object apart.
std::string short_hash(const std::string& text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  if (EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("libcrypto has no SHA-256");
  std::string result;
  for (size_t i = 0; i < 8; ++i) result += {kHex[digest[i] >> 4], kHex[digest[i] & 15]};
  return result;
}

// What is no UTF-8 must not end the agent.
std::string text_of_json(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

// Finding::object as ObjectKey::to_string() makes it.
std::optional<ObjectKey> object_of(const config::Finding& finding) {
  const std::string_view text = finding.object;
  for (size_t kind = 0; kind < kKindCount; ++kind) {
    ObjectKey key{static_cast<Kind>(kind), {}, {}};
    const std::string_view word = to_string(key.kind);
    if (!text.starts_with(word) || text.substr(word.size(), 1) != " ") continue;
    const std::string_view name = text.substr(word.size() + 1);
    const size_t slash = name.find('/');
    if (slash != std::string_view::npos) key.namespace_name = name.substr(0, slash);
    key.name = name.substr(slash == std::string_view::npos ? 0 : slash + 1);
    return key;
  }
  return std::nullopt;
}

std::string_view event_reason(const config::Finding& finding) {
  if (!finding.file.empty()) return {};
  for (const auto& [code, reason] : kReasons) {
    if (finding.code != kCodes[static_cast<size_t>(code)].id) continue;
    const auto key = object_of(finding);
    return key && every_agent_knows(key->kind) ? reason : std::string_view();
  }
  return {};
}

std::string event_message(const config::Finding& finding) {
  std::string message = finding.code + ": " + finding.message;
  if (!finding.fix.empty()) message += " (" + finding.fix + ")";
  if (message.size() <= kMaxMessage) return message;
  constexpr std::string_view kCut = "...";
  size_t size = kMaxMessage - kCut.size();
  // Not in the middle of a UTF-8 sequence.
  while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xc0) == 0x80) --size;
  return message.substr(0, size).append(kCut);
}

std::string event_name(const ObjectReference& about, std::string_view message) {
  std::string name = about.key.name.substr(0, kMaxObjectName);
  while (name.ends_with('-') || name.ends_with('.')) name.pop_back();
  return name + "." + short_hash(about.uid + "\n" + std::string(message));
}

std::string event_json(const std::string& name, const ObjectReference& about, std::string_view reason,
                       std::string_view message, uint32_t count, const EventReporter& reporter, WallTime time) {
  const std::string now = rfc3339(time);
  const ObjectKey& key = about.key;
  return text_of_json({{"apiVersion", "v1"},
                       {"kind", "Event"},
                       {"metadata", {{"name", name}, {"namespace", key.namespace_name}}},
                       {"involvedObject",
                        {{"apiVersion", about.api_version},
                         {"kind", to_string(key.kind)},
                         {"namespace", key.namespace_name},
                         {"name", key.name},
                         {"uid", about.uid},
                         {"resourceVersion", about.version}}},
                       {"type", "Warning"},
                       {"reason", reason},
                       {"message", message},
                       {"count", count},
                       {"firstTimestamp", now},
                       {"lastTimestamp", now},
                       {"source", {{"component", kComponent}, {"host", reporter.host}}},
                       {"reportingComponent", kComponent},
                       {"reportingInstance", reporter.instance}});
}

std::string repeated_event_json(const ObjectReference& about, uint32_t count, const EventReporter& reporter,
                                WallTime time) {
  return text_of_json({{"count", count},
                       {"lastTimestamp", rfc3339(time)},
                       {"involvedObject", {{"resourceVersion", about.version}}},
                       {"reportingInstance", reporter.instance},
                       {"source", {{"host", reporter.host}}}});
}

std::string adopted_event_json(const EventReporter& reporter) {
  return text_of_json({{"reportingInstance", reporter.instance}, {"source", {{"host", reporter.host}}}});
}

}  // namespace weir::kubernetes
