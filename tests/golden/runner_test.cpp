// The runner itself: that a case which should fail does.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "compare.h"
#include "table.h"

namespace weir::golden {
namespace {

using nlohmann::json;

TEST(Differences, AreTold) {
  const json observed = json::parse(R"({"rule": "a", "timeout": "5s", "endpoints": ["x", "y"], "pool": {"max": 1},
      "request_headers": {"x": "1"}, "findings": [{"code": "W1", "line": 3, "message": "the message", "fix": ""}]})");
  const struct {
    const char* expect;
    size_t differences;
  } kCases[] = {
      {R"({"rule": "a", "findings": ["W1"]})", 0},
      {R"({"rule": "b", "findings": ["W1"]})", 1},
      {R"({"endpoints": ["y", "x"], "findings": ["W1"]})", 0},
      {R"({"endpoints": ["y"], "findings": ["W1"]})", 1},
      {R"({"pool": {"max": 1}, "findings": ["W1"]})", 0},
      {R"({"pool": {"max": 2}, "findings": ["W1"]})", 1},
      // What can't be observed is no expectation.
      {R"({"tiemout": "5s", "findings": ["W1"]})", 1},
      {R"({"pool": {"min": null}, "findings": ["W1"]})", 1},
      {R"({"request_headers": {"x": "1", "y": null}, "findings": ["W1"]})", 0},
      {R"({"request_headers": {"x": null, "y": "2"}, "findings": ["W1"]})", 2},
      // Findings are all of them.
      {R"({"findings": []})", 1},
      {R"({"findings": ["W1", "W1"]})", 1},
      {R"({"findings": ["W2"]})", 2},
      {R"({"findings": [{"code": "W1", "line": 3, "message": "mess"}]})", 0},
      {R"({"findings": [{"code": "W1", "line": 4}]})", 2},
      {R"({"findings": [{"code": "W1", "lien": 3}]})", 2},
  };
  for (const auto& c : kCases)
    EXPECT_EQ(differences(json::parse(c.expect), observed).size(), c.differences) << c.expect;
}

TEST(Tables, ThatSayWhatMeansNothingAreRefused) {
  const std::string table = "name: t\nmanifests:\n- |\n  kind: A\n  spec: {}\n";
  const struct {
    std::string text;
    const char* error;  // empty: none
  } kCases[] = {
      {table + "cases: [{name: a, expect: {rule: x}}]\n", ""},
      {table + "cases: []\n", "bad.yaml:0: has no case"},
      {table + "cases: [{name: a, expect: {}}]\n", "bad.yaml:6: it expects nothing"},
      {table + "cases: [{name: a, expects: {rule: x}}]\n", "bad.yaml:6: a case has no key 'expects'"},
      {table + "cases: [{name: a, request: {paht: /}, expect: {rule: x}}]\n",
       "bad.yaml:6: a request has no key 'paht'"},
      {table + "finding: []\ncases: [{name: a, expect: {rule: x}}]\n", "bad.yaml:1: a table has no key 'finding'"},
      {table + "cases:\n- {name: a, expect: {rule: x}}\n- {name: a, expect: {rule: y}}\n",
       "bad.yaml:8: this case is there twice: a"},
  };
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) / ("weir-golden-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const std::filesystem::path file = folder / "bad.yaml";
  for (const auto& c : kCases) {
    std::ofstream(file) << c.text;
    const auto cases = read_tables(file, WEIR_GOLDEN_DIR);
    EXPECT_EQ(cases.ok() ? "" : cases.error().message, c.error) << c.text;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace weir::golden
