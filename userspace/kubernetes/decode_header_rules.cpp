// What a VirtualService changes in header sections. An operation that would make one malformed in HTTP/2 is a finding
// and left out; the rest of its rule applies.
#include <optional>

#include "http/field_rules.h"
#include "kubernetes/decode_istio.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

struct Problem {
  std::string what, fix;
};
using MaybeProblem = std::optional<Problem>;

bool is_authority(std::string_view name) { return name == ":authority" || name == "host"; }

// `name` is in lower case. Istio lets set and add of requests change the authority, and nothing else.
MaybeProblem check_name(std::string_view name, bool may_be_authority) {
  if (name.empty()) return Problem{"has no name", "name the header"};
  if (is_authority(name)) {
    if (may_be_authority) return std::nullopt;
    return Problem{"is the authority, which only set and add of a request can change", "use rewrite.authority"};
  }
  if (name.starts_with(':'))
    return Problem{"is a pseudo-header field, which can't be changed", "use rewrite for the path and the authority"};
  if (!http::is_lower_token(name)) return Problem{"is no header name (RFC 9110)", "use letters, digits and '-'"};
  if (http::connection_specific(name, "trailers"))
    return Problem{"belongs to a connection of HTTP/1.1, HTTP/2 has no such field", "remove it"};
  return std::nullopt;
}

MaybeProblem check_value(std::string_view name, std::string_view value) {
  if (value.empty()) return Problem{"has an empty value", "give it a value, or list it under remove"};
  if (!http::valid_value(value))
    return Problem{"has a value with control characters, or with white space at an end: " + shown(value),
                   "write the value in one line, without blanks around it"};
  if (is_authority(name) && !http::valid_authority(value))
    return Problem{"has the value " + shown(value) + ", which is no authority", "write HOST or HOST:PORT"};
  if (http::connection_specific(name, value))
    return Problem{"has the value " + shown(value) + ": HTTP/2 has only te: trailers", "remove it"};
  return std::nullopt;
}

void report_left_out(ObjectReader& reader, const json& parent, std::string_view key, const std::string& subject,
                     const Problem& problem) {
  reader.report(Code::bad_header_operation, parent, key, subject + " " + problem.what + "; it is left out",
                problem.fix);
}

void decode_values(ObjectReader& reader, const json& fields, const char* verb, bool of_request,
                   std::map<std::string, std::string>& into) {
  const json& values = reader.object(fields, verb);
  for (const auto& [name, value] : reader.string_map(fields, verb)) {
    const std::string lower = lower_case(name);
    MaybeProblem problem = check_name(lower, of_request);
    if (!problem) problem = check_value(lower, value);
    if (!problem && !into.emplace(lower, value).second)
      problem = Problem{"is there twice, in upper and lower case", "keep one of the two"};
    if (problem) report_left_out(reader, values, name, std::string(verb) + ": the header " + shown(name), *problem);
  }
}

config::HeaderOperations decode_operations(ObjectReader& reader, const json& headers, const char* side) {
  const json& fields = reader.object(headers, side);
  const bool of_request = std::string_view(side) == "request";
  config::HeaderOperations operations;
  decode_values(reader, fields, "set", of_request, operations.set);
  decode_values(reader, fields, "add", of_request, operations.add);
  const std::vector<std::string> names = reader.strings(fields, "remove");
  for (size_t i = 0; i < names.size(); ++i) {
    std::string lower = lower_case(names[i]);
    if (const MaybeProblem problem = check_name(lower, false))
      report_left_out(reader, fields["remove"][i], {}, "remove: the header " + shown(names[i]), *problem);
    else
      operations.remove.push_back(std::move(lower));
  }
  return operations;
}

MaybeProblem check_uri(std::string_view uri) {
  if (uri.empty()) return Problem{"is empty", "write a path, / at least"};
  if (!uri.starts_with('/')) return Problem{"is " + shown(uri) + ", which does not begin with /", "write a path"};
  if (!http::valid_value(uri) || http::has_blank(uri))
    return Problem{"is " + shown(uri) + ", which has blanks or control characters", "escape them by %"};
  return std::nullopt;
}

MaybeProblem check_authority(std::string_view authority) {
  if (authority.empty()) return Problem{"is empty", "write HOST or HOST:PORT"};
  return check_value(":authority", authority);
}

// The text, if nothing is wrong with it.
std::optional<std::string> decode_rewritten(ObjectReader& reader, const json& rewrite, const char* key,
                                            MaybeProblem (*check)(std::string_view)) {
  auto text = reader.optional_string(rewrite, key);
  if (!text) return text;
  const MaybeProblem problem = check(*text);
  if (!problem) return text;
  report_left_out(reader, rewrite, key, "rewrite." + std::string(key), *problem);
  return std::nullopt;
}

}  // namespace

config::HeaderRules decode_header_rules(ObjectReader& reader, const json& parent) {
  const json& fields = reader.object(parent, "headers");
  return {decode_operations(reader, fields, "request"), decode_operations(reader, fields, "response")};
}

std::optional<config::Rewrite> decode_rewrite(ObjectReader& reader, const json& rule) {
  const json& fields = reader.object(rule, "rewrite");
  config::Rewrite rewrite{decode_rewritten(reader, fields, "uri", check_uri),
                          decode_rewritten(reader, fields, "authority", check_authority)};
  if (fields.contains("uriRegexRewrite"))
    reader.report(Code::route_not_applied, fields, "uriRegexRewrite", "uriRegexRewrite is not applied yet");
  if (!rewrite.uri && !rewrite.authority) return std::nullopt;
  return rewrite;
}

}  // namespace weir::kubernetes
