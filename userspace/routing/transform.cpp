#include "routing/transform.h"

#include <algorithm>
#include <string>

namespace weir::routing {
namespace {

// Empty: may not be changed.
std::string_view field_of(std::string_view name) {
  if (name == "host" || name == ":authority") return ":authority";
  return name.starts_with(':') ? std::string_view() : name;
}

}  // namespace

void apply(const config::HeaderOperations& operations, http::Headers& headers) {
  for (const std::string& name : operations.remove)
    if (!name.starts_with(':') && name != "host") headers.remove(name);
  for (const auto& [name, value] : operations.set)
    if (const std::string_view field = field_of(name); !field.empty()) headers.set(field, value);
  for (const auto& [name, value] : operations.add) {
    const std::string_view field = field_of(name);
    if (field.empty()) continue;
    if (field.starts_with(':'))  // there is one only
      headers.set(field, value);
    else
      headers.add(field, value);
  }
}

void rewrite(const config::Rewrite& rewrite, const config::RequestMatch* match, http::Headers& headers) {
  if (rewrite.uri) {
    const std::string before(headers.get(":path"));
    size_t replaced = std::min(before.find_first_of("?#"), before.size());
    if (match && match->uri && match->uri->kind() == config::StringMatch::Kind::prefix)
      replaced = std::min(match->uri->text().size(), replaced);
    headers.set(":path", *rewrite.uri + before.substr(replaced));
    headers.set("x-envoy-original-path", before);
  }
  if (rewrite.authority) {
    const std::string before(headers.get(":authority"));
    headers.set(":authority", *rewrite.authority);
    headers.set("x-envoy-original-host", before);
  }
}

}  // namespace weir::routing
