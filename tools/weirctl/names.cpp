#include "weirctl/names.h"

#include <charconv>
#include <vector>

#include "weir/admin_api.h"

namespace weir::weirctl {
namespace {

using nlohmann::json;
namespace key = admin_api::key;

}  // namespace

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  return found->is_string() ? found->get<std::string>() : found->dump();
}

std::string qualified_name(const json& object) {
  return text_of(object, key::namespace_name) + "/" + text_of(object, key::name);
}

bool is_named(const json& object, std::string_view wanted, std::string_view namespace_name) {
  const std::string space = text_of(object, key::namespace_name), name = text_of(object, key::name);
  if (!namespace_name.empty() && space != namespace_name) return false;
  return wanted == name || wanted == name + "." + space || wanted == space + "/" + name ||
         wanted == name + "." + space + ".svc" || (!wanted.empty() && wanted == text_of(object, key::fqdn));
}

base::Result<json> find_one(const json& list, const std::string& wanted, const std::string& namespace_name,
                            const std::string& what) {
  std::vector<const json*> found;
  for (const json& object : list) {
    if (is_named(object, wanted, namespace_name)) found.push_back(&object);
  }
  if (found.size() == 1) return *found.front();
  const std::string within = namespace_name.empty() ? std::string() : " in namespace " + namespace_name;
  if (found.size() > 1) {
    std::string message = what + " " + wanted + " could be ";
    for (const json* object : found) message += (object == found.front() ? "" : " or ") + qualified_name(*object);
    return base::Error{message + ": say which with -n"};
  }
  std::string message = "the agent knows no " + what + " " + wanted + within;
  constexpr size_t kShown = 8;
  size_t shown = 0;
  for (const json& object : list) {
    if (!namespace_name.empty() && text_of(object, key::namespace_name) != namespace_name) continue;
    if (shown == kShown) {
      message += ", ...";
      break;
    }
    message += (shown++ == 0 ? "; it knows " : ", ") + qualified_name(object);
  }
  return base::Error{message};
}

std::optional<ServicePortName> parse_service_port(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  ServicePortName result{std::string(text.substr(0, colon)), 0};
  if (result.service.front() == '[' && result.service.back() == ']') {
    result.service = result.service.substr(1, result.service.size() - 2);
  }
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, result.port);
  if (error != std::errc() || stop != end || result.port == 0) return std::nullopt;
  return result;
}

}  // namespace weir::weirctl
