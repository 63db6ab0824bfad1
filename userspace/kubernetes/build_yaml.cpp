// yaml-cpp's events -> TreeBuilder. Plain scalars get their type as Kubernetes'
// own YAML reader gives it (YAML 1.2's core schema, and yes/no/on/off as
// booleans), so that a manifest is accepted here just where kubectl accepts it.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>
#include <unordered_map>

#include "kubernetes/tree_builder.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::optional<json> parse_integer(std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0o")) {
    base = text[1] == 'x' ? 16 : 8;
    text.remove_prefix(2);
  }
  uint64_t magnitude = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), magnitude, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (!negative) return json(magnitude);
  if (magnitude > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  return json(-static_cast<int64_t>(magnitude));
}

std::optional<json> parse_float(std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  if (one_of(text, {".inf", ".Inf", ".INF"})) {
    value = std::numeric_limits<double>::infinity();
  } else if (one_of(text, {".nan", ".NaN", ".NAN"})) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else {
    // from_chars also takes "inf" and "nan", which are strings here.
    if (text.empty() || !(is_digit(text[0]) || (text.size() > 1 && text[0] == '.' && is_digit(text[1])))) {
      return std::nullopt;
    }
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  }
  return json(negative ? -value : value);
}

json resolve_plain(const std::string& text) {
  if (one_of(text, {"", "~", "null", "Null", "NULL"})) return nullptr;
  if (one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) return true;
  if (one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) return false;
  if (auto integer = parse_integer(text)) return *std::move(integer);
  if (auto number = parse_float(text)) return *std::move(number);
  return text;
}

// Ends yaml-cpp's parse from inside an event: builder.error() is set.
struct Stop {};

class YamlEvents : public YAML::EventHandler {
 public:
  YamlEvents(TreeBuilder& builder, int first_line) : builder_(builder), first_line_(first_line) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (expects_key()) fail(mark, "a mapping has a value without a key");
    value(nullptr, mark, anchor);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    if (expects_key()) {
      // Numbers and booleans as keys become their text, as in Kubernetes.
      if (anchor != 0) anchors_[anchor] = text;
      key(text, tag == "?", mark);
      return;
    }
    value(typed(mark, tag, text), mark, anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    auto found = anchors_.find(anchor);
    if (found == anchors_.end()) fail(mark, "an alias inside the node that it refers to");
    if (!expects_key()) {
      value(found->second, mark, 0);
    } else if (found->second.is_string()) {
      key(found->second.get<std::string>(), false, mark);
    } else {
      fail(mark, "a mapping key that is not a string");
    }
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(json::value_t::array, mark, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(json::value_t::object, mark, anchor);
  }
  void OnMapEnd() override {
    if (open_.back().merges) merge();
    close();
  }

 private:
  struct Open {
    bool is_map;
    bool expects_key;
    bool merges;  // has the key <<
    YAML::anchor_t anchor;
    int line;
  };

  int line(const YAML::Mark& mark) const { return first_line_ + std::max(mark.line, 0); }
  bool expects_key() const { return !open_.empty() && open_.back().expects_key; }
  void must(bool went_well) {
    if (!went_well) throw Stop();
  }
  void fail(const YAML::Mark& mark, std::string message) {
    must(builder_.fail(Code::malformed, line(mark), std::move(message)));
  }

  json typed(const YAML::Mark& mark, const std::string& tag, const std::string& text) {
    constexpr std::string_view kStandard = "tag:yaml.org,2002:";
    if (tag == "?" || tag.empty()) return resolve_plain(text);
    if (tag == "!" || tag == "tag:yaml.org,2002:str") return text;
    std::string_view kind = tag;
    if (kind.starts_with(kStandard)) kind.remove_prefix(kStandard.size());
    if (!one_of(kind, {"int", "float", "bool", "null"})) fail(mark, "the tag " + shown(tag) + " is not supported");
    return resolve_plain(text);
  }

  void key(std::string name, bool plain, const YAML::Mark& mark) {
    Open& map = open_.back();
    if (plain && name == "<<") map.merges = true;
    must(builder_.key(std::move(name), line(mark)));
    map.expects_key = false;
  }

  void value(json scalar, const YAML::Mark& mark, YAML::anchor_t anchor) {
    must(builder_.scalar(std::move(scalar), line(mark)));
    completed(anchor, line(mark));
  }

  void open(json::value_t container, const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (expects_key()) fail(mark, "a mapping key that is not a string");
    must(builder_.begin(container, line(mark)));
    bool is_map = container == json::value_t::object;
    open_.push_back({is_map, is_map, false, anchor, line(mark)});
  }

  void close() {
    Open closed = open_.back();
    open_.pop_back();
    builder_.end();
    completed(closed.anchor, closed.line);
  }

  void completed(YAML::anchor_t anchor, int at_line) {
    if (!open_.empty()) open_.back().expects_key = open_.back().is_map;
    if (anchor == 0) return;
    must(builder_.charge(*builder_.last(), at_line));
    anchors_[anchor] = *builder_.last();
  }

  // The innermost map takes over the members that it lacks from the map, or the maps, under <<.
  void merge() {
    json& map = builder_.innermost();
    json source = std::move(map["<<"]);
    map.erase("<<");
    if (source.is_object()) source = json::array({std::move(source)});
    for (json& part : source) {
      if (!part.is_object()) {
        must(builder_.fail(Code::malformed, open_.back().line, "the value of << must be a mapping, or a list of them"));
      }
      map.insert(part.begin(), part.end());
    }
  }

  TreeBuilder& builder_;
  int first_line_;
  std::vector<Open> open_;
  std::unordered_map<YAML::anchor_t, json> anchors_;
};

}  // namespace

bool build_yaml(std::string_view text, int first_line, TreeBuilder& builder) {
  std::istringstream input{std::string(text)};
  YamlEvents events(builder, first_line);
  try {
    YAML::Parser parser(input);
    parser.HandleNextDocument(events);
    // Asking for a further document would never end: yaml-cpp does not move past a stray bracket.
    if (parser) return builder.fail(Code::malformed, first_line, "unexpected content after the end of the document");
    return true;
  } catch (const Stop&) {
    return false;
  } catch (const YAML::Exception& error) {
    return builder.fail(Code::malformed, first_line + std::max(error.mark.line, 0), error.msg);
  } catch (const std::exception& error) {
    return builder.fail(Code::malformed, first_line, error.what());
  }
}

}  // namespace weir::kubernetes
