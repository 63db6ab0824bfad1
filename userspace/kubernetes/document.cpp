#include "kubernetes/document.h"

#include <algorithm>

#include "kubernetes/tree_builder.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

uint64_t mix(uint64_t path, uint64_t value) {
  uint64_t x = (path ^ value) * 0xD6E8FEB86659FD93ull;
  return x ^ (x >> 32);
}

// The number of the first line that is not valid UTF-8 or has a NUL; 0 if there is none.
int line_of_bad_utf8(std::string_view text) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    auto byte = static_cast<uint8_t>(text[i]);
    if (byte < 0x80) {
      if (byte == 0) return line;
      if (byte == '\n') ++line;
      ++i;
      continue;
    }
    size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    if (byte < 0xc2 || byte > 0xf4 || text.size() - i < length) return line;
    uint32_t code = byte & (0xffu >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      auto next = static_cast<uint8_t>(text[i + k]);
      if ((next & 0xc0) != 0x80) return line;
      code = (code << 6) | (next & 0x3fu);
    }
    bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return line;
    i += length;
  }
  return 0;
}

// "---" or "..." at the start of a line ends a document, also inside block scalars.
bool is_separator(std::string_view line) {
  if (!line.starts_with("---") && !line.starts_with("...")) return false;
  return line.size() == 3 || line[3] == ' ' || line[3] == '\t' || line[3] == '\r';
}

// yaml-cpp's messages do not say that a tab is the cause. `line` counts from 0.
bool indented_by_tab(std::string_view text, int line) {
  for (; line > 0 && !text.empty(); --line) text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
  size_t indentation = text.find_first_not_of(" \t");
  return text.substr(0, indentation).find('\t') != std::string_view::npos;
}

class FileReader {
 public:
  FileReader(const std::string& file, Documents* out) : file_(file), out_(out) {}

  void read_json(std::string_view text) {
    TreeBuilder builder(&budget_);
    finish(builder, build_json(text, builder));
  }

  void read_yaml(std::string_view text) {
    int line = 1;
    int start_line = 1;
    size_t start = 0;
    for (size_t at = 0; at < text.size();) {
      size_t newline = std::min(text.find('\n', at), text.size());
      if (is_separator(text.substr(at, newline - at))) {
        read_yaml_document(text.substr(start, at - start), start_line);
        bool begins = text[at] == '-';  // the line "--- ..." may hold content of the next document
        start = begins ? at : std::min(newline + 1, text.size());
        start_line = begins ? line : line + 1;
      }
      at = newline + 1;
      ++line;
    }
    read_yaml_document(text.substr(start), start_line);
  }

  void report(Code code, int line, std::string message, std::string fix) {
    out_->complete = false;
    findings_.add(finding(code, {file_, line}, {}, std::move(message), std::move(fix)));
  }
  std::vector<config::Finding> take_findings() { return findings_.take({file_, 0}, {}); }

 private:
  static constexpr size_t kMaxFindings = 50;

  void read_yaml_document(std::string_view text, int first_line) {
    if (text.find_first_not_of(" \t\r\n-") == std::string_view::npos) return;
    if (++yaml_documents_ > kMaxDocuments) {
      report(Code::limit_exceeded, first_line, "more than " + std::to_string(kMaxDocuments) + " documents in one file",
             "split the file");
      return;
    }
    TreeBuilder builder(&budget_);
    bool went_well = build_yaml(text, first_line, builder);
    std::string fix;
    if (!went_well && indented_by_tab(text, builder.error()->line - first_line)) {
      fix = "indent with spaces: YAML does not allow tabs";
    }
    finish(builder, went_well, std::move(fix));
  }

  void finish(TreeBuilder& builder, bool went_well, std::string fix = {}) {
    if (!went_well) {
      const BuildError& error = *builder.error();
      if (error.code == Code::limit_exceeded) fix = "split the file";
      report(error.code, error.line, error.message, std::move(fix));
      return;
    }
    if (builder.root().is_null()) return;
    auto lines = std::make_shared<LineTable>(std::move(builder.lines()));
    lines->seal();
    int line = lines->find(LineTable::kRoot);
    flatten({std::move(builder.root()), LineTable::kRoot, line, std::move(lines)});
  }

  void flatten(Document document) {
    json& value = document.value;
    if (!value.is_object()) {
      report(Code::not_an_object, document.line,
             "not a Kubernetes object: a mapping with kind and apiVersion is expected",
             "remove it, or give the file another extension");
      return;
    }
    std::string kind = value.value("kind", json()).is_string() ? value["kind"].get<std::string>() : std::string();
    if (!kind.ends_with("List") || !value.contains("items") || !value["items"].is_array()) {
      out_->documents.push_back(std::move(document));
      return;
    }
    // ServiceList's items may leave out what the list says.
    kind.resize(kind.size() - 4);
    json api_version = value.value("apiVersion", json());
    uint64_t items_path = LineTable::child(document.path, "items");
    size_t index = 0;
    for (json& item : value["items"]) {
      if (!kind.empty() && item.is_object()) {
        if (!item.contains("kind")) item["kind"] = kind;
        if (!item.contains("apiVersion")) item["apiVersion"] = api_version;
      }
      uint64_t path = LineTable::child(items_path, index++);
      flatten({std::move(item), path, document.lines->find(path), document.lines});
    }
  }

  const std::string& file_;
  Documents* out_;
  FindingList findings_{kMaxFindings};
  Budget budget_;
  size_t yaml_documents_ = 0;
};

}  // namespace

uint64_t LineTable::child(uint64_t path, std::string_view key) { return mix(path, std::hash<std::string_view>()(key)); }

uint64_t LineTable::child(uint64_t path, size_t index) { return mix(path + 1, index + 1); }

void LineTable::seal() { std::sort(lines_.begin(), lines_.end()); }

int LineTable::find(uint64_t path) const {
  auto found = std::lower_bound(lines_.begin(), lines_.end(), std::pair<uint64_t, int>(path, 0));
  return found != lines_.end() && found->first == path ? found->second : 0;
}

std::string too_large(size_t bytes) {
  return "the file has " + std::to_string(bytes) + " bytes; weir reads at most " + std::to_string(kMaxFileBytes);
}

Documents parse_documents(std::string_view text, const std::string& file, Format format) {
  Documents result;
  FileReader reader(file, &result);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (text.size() > kMaxFileBytes) {
    reader.report(Code::too_large, 0, too_large(text.size()), kSplitTheFile);
  } else if (int line = line_of_bad_utf8(text); line != 0) {
    reader.report(Code::malformed, line, "not UTF-8 text", "save the file as UTF-8");
  } else if (format == Format::json) {
    if (text.find_first_not_of(" \t\r\n") != std::string_view::npos) reader.read_json(text);
  } else {
    reader.read_yaml(text);
  }
  result.findings = reader.take_findings();
  return result;
}

}  // namespace weir::kubernetes
