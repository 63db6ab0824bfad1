#include "compare.h"

#include <algorithm>
#include <string_view>

namespace weir::golden {
namespace {

using nlohmann::json;

bool is_part(const json& part, const json& whole) {
  return part.is_string() && whole.is_string() &&
         whole.get_ref<const std::string&>().find(part.get_ref<const std::string&>()) != std::string::npos;
}

bool is_finding(const json& expected, const json& finding) {
  if (expected.is_string()) return expected == finding["code"];
  if (!expected.is_object()) return false;
  return std::all_of(expected.items().begin(), expected.items().end(), [&](const auto& entry) {
    const bool text = entry.key() == "message" || entry.key() == "fix";
    return finding.contains(entry.key()) &&
           (text ? is_part(entry.value(), finding[entry.key()]) : entry.value() == finding[entry.key()]);
  });
}

std::vector<std::string> compare_findings(const json& expected, json observed) {
  std::vector<std::string> found;
  for (const json& one : expected) {
    const auto at = std::find_if(observed.begin(), observed.end(), [&](const json& f) { return is_finding(one, f); });
    if (at == observed.end())
      found.push_back("there is no finding " + one.dump());
    else
      observed.erase(at);
  }
  for (const json& more : observed) found.push_back("a finding that is not expected: " + more.dump());
  return found;
}

json sorted(json value) {
  if (value.is_array()) std::sort(value.begin(), value.end());
  return value;
}

void compare(const std::string& path, const json& expected, const json& observed, std::vector<std::string>& found) {
  if (!expected.is_object() || !observed.is_object()) {
    if (sorted(expected) != sorted(observed))
      found.push_back(path + ": expected " + expected.dump() + ", it is " + observed.dump());
    return;
  }
  for (const auto& [key, value] : expected.items()) {
    const std::string below = path.empty() ? key : path + "." + key;
    if (observed.contains(key))
      compare(below, value, observed[key], found);
    else if (!path.ends_with("_headers"))
      found.push_back(below + ": there is no such thing to expect");
    else if (!value.is_null())
      found.push_back(below + ": expected " + value.dump() + ", it is not there");
  }
}

}  // namespace

std::vector<std::string> differences(const json& expected, const json& observed) {
  json rest = expected;
  std::vector<std::string> found = compare_findings(rest["findings"], observed["findings"]);
  rest.erase("findings");
  compare({}, rest, observed, found);
  return found;
}

}  // namespace weir::golden
