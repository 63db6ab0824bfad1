#include "kubernetes/object_reader.h"

#include <algorithm>
#include <sstream>

#include "config/duration.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

const json kNoObject = json::object();
const json kNoArray = json::array();

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

const char* type_name(const json& value) {
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "a list" : value.is_object() ? "a mapping" : "null";
}

// Finds `target` below `node` by address; fills the path from the leaf up on the way back.
bool walk(const json& node, const json& target, uint64_t path, const LineTable* lines, std::string& text, int& line) {
  int own_line = lines ? lines->find(path) : 0;
  if (&node == &target) {
    line = own_line;
    return true;
  }
  bool found = false;
  std::string step;
  if (node.is_object()) {
    for (const auto& [key, value] : node.get_ref<const json::object_t&>()) {
      if (!walk(value, target, LineTable::child(path, key), lines, text, line)) continue;
      step = "." + key;
      found = true;
      break;
    }
  } else if (node.is_array()) {
    for (size_t i = 0; i < node.size() && !found; ++i) {
      found = walk(node[i], target, LineTable::child(path, i), lines, text, line);
      if (found) step = "[" + std::to_string(i) + "]";
    }
  }
  if (!found) return false;
  for (char& c : step) {
    if (static_cast<uint8_t>(c) < 0x20) c = '?';
  }
  text.insert(0, step);
  // Nodes that an alias brought in have no line of their own: the alias's is the best there is.
  if (line == 0) line = own_line;
  return true;
}

}  // namespace

const json* ObjectReader::member(const json& parent, const char* key) const {
  auto found = parent.find(key);
  return found == parent.end() || found->is_null() ? nullptr : &*found;
}

const json& ObjectReader::object(const json& parent, const char* key) {
  const json* value = member(parent, key);
  if (!value) return kNoObject;
  if (value->is_object()) return *value;
  wrong_type(parent, key, *value, "a mapping");
  return kNoObject;
}

const json& ObjectReader::array(const json& parent, const char* key) {
  const json* value = member(parent, key);
  if (!value) return kNoArray;
  if (value->is_array()) return *value;
  wrong_type(parent, key, *value, "a list");
  return kNoArray;
}

std::vector<const json*> ObjectReader::objects(const json& parent, const char* key) {
  std::vector<const json*> result;
  for (const json& item : array(parent, key)) {
    if (item.is_object()) {
      result.push_back(&item);
    } else {
      wrong_type(item, {}, item, "a mapping");
    }
  }
  return result;
}

std::optional<std::string> ObjectReader::optional_string(const json& parent, const char* key) {
  const json* value = member(parent, key);
  if (!value) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  wrong_type(parent, key, *value, "a string");
  return std::nullopt;
}

std::string ObjectReader::string(const json& parent, const char* key) {
  return optional_string(parent, key).value_or(std::string());
}

std::string ObjectReader::string_of(const json& parent, const char* key,
                                    std::initializer_list<std::string_view> allowed, std::string_view fallback) {
  std::string text = string(parent, key);
  if (text.empty()) return std::string(fallback);
  if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return text;
  std::string choices;
  for (std::string_view choice : allowed) choices += (choices.empty() ? "" : ", ") + std::string(choice);
  reject(Code::bad_value, parent, key, "has the unknown value " + shown(text), "use one of " + choices);
  return std::string(fallback);
}

std::optional<bool> ObjectReader::boolean(const json& parent, const char* key) {
  const json* value = member(parent, key);
  if (!value) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  wrong_type(parent, key, *value, "a boolean");
  return std::nullopt;
}

std::optional<uint16_t> ObjectReader::port(const json& parent, const char* key) {
  const json* value = member(parent, key);
  if (!value) return std::nullopt;
  if (!value->is_number_integer()) {
    wrong_type(parent, key, *value, "an integer");
    return std::nullopt;
  }
  // Integers above INT64_MAX are stored unsigned.
  bool in_range = value->is_number_unsigned() ? value->get<uint64_t>() - 1 < 65535 : false;
  if (!in_range) {
    reject(Code::bad_value, parent, key, "is " + dump(*value) + ", which is no port", "use 1 to 65535");
    return std::nullopt;
  }
  return static_cast<uint16_t>(value->get<uint64_t>());
}

std::optional<int64_t> ObjectReader::integer(const json& parent, const char* key, int64_t least, int64_t most) {
  const json* value = member(parent, key);
  if (!value) return std::nullopt;
  if (!value->is_number_integer()) {
    wrong_type(parent, key, *value, "an integer");
    return std::nullopt;
  }
  const bool too_large = value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
  if (too_large || value->get<int64_t>() < least || value->get<int64_t>() > most) {
    reject(Code::bad_value, parent, key, "is " + dump(*value),
           "use " + std::to_string(least) + " to " + std::to_string(most));
    return std::nullopt;
  }
  return value->get<int64_t>();
}

std::optional<double> ObjectReader::number(const json& parent, const char* key, double least, double most) {
  const json* value = member(parent, key);
  if (!value) return std::nullopt;
  if (!value->is_number()) {
    wrong_type(parent, key, *value, "a number");
    return std::nullopt;
  }
  const double read = value->get<double>();
  if (read >= least && read <= most) return read;
  std::ostringstream range;
  range << "use " << least << " to " << most;
  reject(Code::bad_value, parent, key, "is " + dump(*value), range.str());
  return std::nullopt;
}

std::optional<base::Duration> ObjectReader::duration(const json& parent, const char* key, base::Duration least) {
  const auto text = optional_string(parent, key);
  if (!text) return std::nullopt;
  const auto parsed = config::parse_duration(*text);
  if (!parsed) {
    reject(Code::bad_value, parent, key, "is " + shown(*text) + ", which is no duration",
           "write a number and its unit, h, m, s or ms: \"1.5s\"");
  } else if (*parsed < least) {
    reject(Code::bad_value, parent, key, "is " + shown(*text), "use at least " + config::to_string(least));
    return std::nullopt;
  }
  return parsed;
}

std::vector<std::string> ObjectReader::strings(const json& parent, const char* key) {
  std::vector<std::string> result;
  for (const json& item : array(parent, key)) {
    if (item.is_string()) {
      result.push_back(item.get<std::string>());
    } else {
      wrong_type(item, {}, item, "a string");
    }
  }
  return result;
}

Labels ObjectReader::string_map(const json& parent, const char* key) {
  Labels result;
  const json& map = object(parent, key);
  for (const auto& [name, value] : map.get_ref<const json::object_t&>()) {
    if (value.is_string()) {
      result.emplace(name, value.get<std::string>());
    } else {
      wrong_type(map, name, value, "a string");
    }
  }
  return result;
}

std::optional<base::IpAddress> ObjectReader::address(const json& parent, std::string_view field,
                                                     std::string_view text) {
  auto ip = base::IpAddress::parse(text);
  if (!ip) {
    reject(Code::bad_address, parent, field, "has " + shown(text) + ", which is no IP address");
    return std::nullopt;
  }
  uint8_t first = ip->is_v4() ? ip->bytes[12] : ip->bytes[0];
  bool multicast = ip->is_v4() ? first >= 224 : first == 0xff;
  bool link_local = ip->is_v4() ? first == 169 && ip->bytes[13] == 254 : first == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
  if (ip->is_loopback() || ip->is_unspecified() || multicast || link_local) {
    reject(Code::bad_address, parent, field,
           "has " + shown(text) + ", a loopback, link-local, multicast or unspecified address");
    return std::nullopt;
  }
  return ip;
}

void ObjectReader::wrong_type(const json& parent, std::string_view key, const json& value, const char* expected) {
  bool wants_string = std::string_view(expected) == "a string";
  std::string fix = wants_string && value.is_primitive() && !value.is_null() ? "quote it: \"" + dump(value) + "\"" : "";
  reject(Code::wrong_type, parent, key, std::string("is ") + type_name(value) + " where " + expected + " is expected",
         std::move(fix));
}

void ObjectReader::reject(Code code, const json& parent, std::string_view key, std::string problem, std::string fix) {
  rejected_ = true;
  // Finding the place of each of very many problems would take long.
  if (findings_.full()) return findings_.leave_out(severity_of(code));
  Place place = place_of(parent, key);
  std::string message = (place.path.empty() ? "the object" : place.path) + " " + problem + "; " + part_ + " rejected";
  findings_.add(finding(code, {origin_.file, place.line}, object_name_, std::move(message), std::move(fix)));
}

void ObjectReader::report(Code code, const json& parent, std::string_view key, std::string message, std::string fix) {
  if (findings_.full()) return findings_.leave_out(severity_of(code));
  Place place = place_of(parent, key);
  findings_.add(finding(code, {origin_.file, place.line}, object_name_, std::move(message), std::move(fix)));
}

ObjectReader::Place ObjectReader::find(const json& target) const {
  Place place;
  walk(document_.value, target, document_.path, document_.lines.get(), place.path, place.line);
  if (place.line == 0) place.line = document_.line;
  return place;
}

ObjectReader::Place ObjectReader::place_of(const json& parent, std::string_view key) const {
  Place place;
  auto present = key.empty() || !parent.is_object() ? parent.end() : parent.find(key);
  if (!key.empty() && present == parent.end()) {
    place = find(parent);
    place.path += "." + std::string(key);
  } else {
    place = find(key.empty() ? parent : *present);
  }
  if (place.path.starts_with('.')) place.path.erase(0, 1);
  if (place.path.size() > 200) place.path = place.path.substr(0, 200) + "...";
  return place;
}

}  // namespace weir::kubernetes
