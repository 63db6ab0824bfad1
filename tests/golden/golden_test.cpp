// Registers a test for each case of the golden tables.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "compare.h"
#include "observe.h"
#include "table.h"

namespace weir::golden {
namespace {

class Golden : public testing::Test {
 public:
  explicit Golden(Case one) : case_(std::move(one)) {}

  void TestBody() override {
    const auto observed = observe(case_);
    ASSERT_TRUE(observed.ok()) << observed.error().message;
    std::string text;
    for (const std::string& difference : differences(case_.expect, observed.value())) text += "\n  " + difference;
    if (!text.empty()) ADD_FAILURE() << case_.name << ":" << text << "\nobserved:\n" << observed.value().dump(2);
  }

 private:
  Case case_;
};

class Unreadable : public testing::Test {
 public:
  explicit Unreadable(std::string problem) : problem_(std::move(problem)) {}
  void TestBody() override { FAIL() << problem_; }

 private:
  std::string problem_;
};

// As far as a test's name may have it: "a_prefix_is_raw".
std::string identifier(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (plain)
      result += c;
    else if (!result.empty() && result.back() != '_')
      result += '_';
  }
  return result;
}

void register_tables(const std::filesystem::path& file) {
  const std::string stem = file.stem();
  auto cases = read_tables(file, WEIR_GOLDEN_DIR);
  if (!cases) {
    testing::RegisterTest("unreadable", stem.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [problem = cases.error().message] { return new Unreadable(problem); });
    return;
  }
  for (const Case& one : *cases) {
    const std::string suite = stem + "/" + identifier(one.table);
    testing::RegisterTest(suite.c_str(), identifier(one.name).c_str(), nullptr, nullptr, one.file.c_str(), one.line,
                          [one] { return new Golden(one); });
  }
}

}  // namespace
}  // namespace weir::golden

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(WEIR_GOLDEN_DIR "/tables"))
    files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) weir::golden::register_tables(file);
  return RUN_ALL_TESTS();
}
