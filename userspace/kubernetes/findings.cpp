#include "kubernetes/findings.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "weir/admin_api.h"

namespace weir::kubernetes {
namespace {

constexpr bool in_order() {
  for (size_t i = 0; i < kCodes.size(); ++i) {
    if (static_cast<size_t>(kCodes[i].code) != i) return false;
  }
  return true;
}
static_assert(in_order(), "kCodes is indexed by Code");

}  // namespace

config::Finding finding(Code code, const Origin& origin, std::string object, std::string message, std::string fix) {
  const CodeMeaning& meaning = kCodes[static_cast<size_t>(code)];
  return {std::string(meaning.id), meaning.severity,   origin.file,   origin.line,
          std::move(object),       std::move(message), std::move(fix)};
}

void FindingList::add(config::Finding finding) {
  if (full()) return leave_out(finding.severity);
  findings_.push_back(std::move(finding));
}

void FindingList::leave_out(config::Severity severity) {
  ++left_out_;
  worst_ = std::max(worst_, severity);
}

std::vector<config::Finding> FindingList::take(const Origin& origin, std::string object) {
  if (left_out_ > 0) {
    findings_.push_back(finding(Code::more_findings, origin, std::move(object),
                                "there are " + std::to_string(left_out_) + " more findings, which are not listed",
                                "correct those that are"));
    findings_.back().severity = worst_;
    left_out_ = 0;
  }
  return std::exchange(findings_, {});
}

nlohmann::json to_json(const config::Finding& finding) {
  namespace key = admin_api::key;
  return {{key::code, finding.code},     {key::severity, to_string(finding.severity)},
          {key::file, finding.file},     {key::line, finding.line},
          {key::object, finding.object}, {key::message, finding.message},
          {key::fix, finding.fix}};
}

std::string shown(std::string_view text) {
  constexpr size_t kShown = 120;
  constexpr char kHex[] = "0123456789abcdef";
  bool cut = text.size() > kShown;
  if (cut) {
    text = text.substr(0, kShown);
    // Not in the middle of a UTF-8 sequence.
    while (!text.empty() && (static_cast<uint8_t>(text.back()) & 0xc0) == 0x80) text.remove_suffix(1);
    if (!text.empty() && static_cast<uint8_t>(text.back()) >= 0xc0) text.remove_suffix(1);
  }
  std::string result = "'";
  for (char c : text) {
    auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      result += c;
    }
  }
  return result + (cut ? "...'" : "'");
}

}  // namespace weir::kubernetes
