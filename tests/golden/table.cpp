#include "table.h"

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string_view>

#include "kubernetes/document.h"
#include "kubernetes/manifest_file.h"

namespace weir::golden {
namespace {

using kubernetes::Document;
using kubernetes::LineTable;
using nlohmann::json;

constexpr std::array<std::string_view, 7> kOfTable = {"name",    "about",    "fields", "manifests",
                                                      "request", "findings", "cases"};
constexpr std::array<std::string_view, 5> kOfCase = {"name", "fields", "negative", "request", "expect"};
constexpr std::array<std::string_view, 12> kOfRequest = {
    "node", "zone", "from", "labels", "to", "method", "path", "scheme", "random", "authority", "headers", "response"};

// The first key that is not `known`; empty: none.
std::string stranger(const json& object, std::span<const std::string_view> known) {
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end()) return key;
  return {};
}

class Reader {
 public:
  Reader(std::filesystem::path file, std::filesystem::path root) : file_(std::move(file)), root_(std::move(root)) {}

  base::Result<std::vector<Case>> run() {
    auto text = kubernetes::read_file(file_);
    if (!text) return text.error();
    const kubernetes::Documents parsed = kubernetes::parse_documents(*text, file_.filename(), kubernetes::Format::yaml);
    for (const config::Finding& finding : parsed.findings) fail(finding.line, finding.message);
    for (const Document& document : parsed.documents) read_table(document);
    if (cases_.empty()) fail(0, "has no case");
    if (!problem_.empty()) return base::Error{problem_};
    return std::move(cases_);
  }

 private:
  // The first problem is the one that is told.
  void fail(int line, const std::string& what) {
    if (problem_.empty()) problem_ = file_.filename().string() + ":" + std::to_string(line) + ": " + what;
  }

  // The member as an object, empty if it is not there.
  json object(const json& parent, const char* key, int line) {
    const json value = parent.value(key, json::object());
    if (value.is_object()) return value;
    fail(line, std::string(key) + " is no mapping");
    return json::object();
  }

  std::string name_of(const json& parent, int line) {
    const json name = parent.value("name", json());
    if (name.is_string() && !name.get<std::string>().empty()) return name;
    fail(line, "has no name");
    return {};
  }

  std::vector<Manifest> read_manifests(const json& list, int line) {
    std::vector<Manifest> manifests;
    if (!list.is_array() || list.empty()) fail(line, "manifests: there is none");
    for (const json& item : list) {
      const std::string text = item.is_string() ? item.get<std::string>() : std::string();
      if (text.find('\n') != std::string::npos) {
        manifests.emplace_back("inline-" + std::to_string(manifests.size()) + ".yaml", text);
        continue;
      }
      auto read = kubernetes::read_file(root_ / "manifests" / text);
      if (read)
        manifests.emplace_back(std::filesystem::path(text).filename(), std::move(*read));
      else
        fail(line, "manifests: '" + text + "' is neither text of several lines nor a file: " + read.error().message);
    }
    return manifests;
  }

  void read_table(const Document& document) {
    const json& table = document.value;
    if (!table.is_object()) return fail(document.line, "is no mapping");
    if (const std::string key = stranger(table, kOfTable); !key.empty())
      return fail(document.line, "a table has no key '" + key + "'");
    Case common;
    common.file = file_;
    common.table = name_of(table, document.line);
    common.manifests = read_manifests(table.value("manifests", json()), document.line);
    common.request = object(table, "request", document.line);
    common.expect["findings"] = table.value("findings", json::array());
    const json cases = table.value("cases", json::array());
    if (!cases.is_array()) return fail(document.line, "cases is no list");
    const uint64_t path = LineTable::child(document.path, "cases");
    for (size_t i = 0; i < cases.size(); ++i)
      read_case(cases[i], document.lines->find(LineTable::child(path, i)), common);
  }

  void read_case(const json& fields, int line, Case one) {
    if (!fields.is_object()) return fail(line, "a case is no mapping");
    if (const std::string key = stranger(fields, kOfCase); !key.empty())
      return fail(line, "a case has no key '" + key + "'");
    one.line = line;
    one.name = name_of(fields, line);
    if (!names_.emplace(one.table, one.name).second) fail(line, "this case is there twice: " + one.name);
    one.request.merge_patch(object(fields, "request", line));
    if (const std::string key = stranger(one.request, kOfRequest); !key.empty())
      fail(line, "a request has no key '" + key + "'");
    const json expect = object(fields, "expect", line);
    if (expect.empty()) fail(line, "it expects nothing");
    one.expect.update(expect);
    cases_.push_back(std::move(one));
  }

  const std::filesystem::path file_, root_;
  std::vector<Case> cases_;
  std::set<std::pair<std::string, std::string>> names_;
  std::string problem_;
};

}  // namespace

base::Result<std::vector<Case>> read_tables(const std::filesystem::path& file, const std::filesystem::path& root) {
  return Reader(file, root).run();
}

}  // namespace weir::golden
