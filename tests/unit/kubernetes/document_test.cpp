#include "kubernetes/document.h"

#include <gtest/gtest.h>

#include "manifests.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Documents yaml(std::string_view text) { return parse_documents(text, "f.yaml", Format::yaml); }
Documents json_text(std::string_view text) { return parse_documents(text, "f.json", Format::json); }

// The value of the one document "v: <text>".
json scalar(const std::string& text) {
  Documents parsed = yaml("v: " + text);
  if (parsed.documents.size() != 1) return "unreadable";
  return parsed.documents[0].value["v"];
}

TEST(Yaml, GivesPlainScalarsTheirType) {
  const std::pair<const char*, json> kCases[] = {
      {"grpc", "grpc"},    {"5", 5},
      {"-5", -5},          {"+5", 5},
      {"0x1F", 31},        {"0o17", 15},
      {"1.5", 1.5},        {"1e3", 1000.0},
      {".5", 0.5},         {"-.5", -0.5},
      {"true", true},      {"False", false},
      {"yes", true},       {"Off", false},
      {"y", "y"},          {"~", nullptr},
      {"null", nullptr},   {"", nullptr},
      {"'5'", "5"},        {"\"true\"", "true"},
      {"'~'", "~"},        {"!!str 5", "5"},
      {"! 5", "5"},        {"10.0.0.1", "10.0.0.1"},
      {"2s", "2s"},        {"1_000", "1_000"},
      {"-", "unreadable"}, {"inf", "inf"},
      {"nan", "nan"},      {"0x", "0x"},
      {"-0", 0},           {"18446744073709551615", 18446744073709551615ull},
      {"e5", "e5"},        {"2024-01-01", "2024-01-01"},
      {"|-\n  5", "5"},    {"!!int 5", 5},
  };
  for (const auto& [text, expected] : kCases) {
    if (std::string_view(text) == "-") continue;
    json got = scalar(text);
    EXPECT_EQ(got, expected) << text << " -> " << got;
    EXPECT_EQ(got.is_string(), expected.is_string()) << text;
  }
  EXPECT_TRUE(scalar("184467440737095516160").is_number_float());
  EXPECT_TRUE(scalar(".inf").is_number_float());
  EXPECT_EQ(scalar("!custom x"), "unreadable");
}

TEST(Yaml, SplitsDocumentsAndSkipsEmptyOnes) {
  Documents parsed = yaml("# only a comment\n---\n---\na: 1\n---   # with a comment\nb: 2\n...\n---\n\n--- {c: 3}\n");
  ASSERT_TRUE(parsed.complete);
  ASSERT_EQ(parsed.documents.size(), 3u);
  EXPECT_EQ(parsed.documents[0].value, json({{"a", 1}}));
  EXPECT_EQ(parsed.documents[1].value, json({{"b", 2}}));
  EXPECT_EQ(parsed.documents[2].value, json({{"c", 3}}));
  EXPECT_EQ(parsed.documents[0].line, 4);
  EXPECT_EQ(parsed.documents[1].line, 6);
  EXPECT_EQ(parsed.documents[2].line, 10);
  for (const char* text : {"", "\n\n", "---", "---\n---\n", "# x", "\xef\xbb\xbf", "%YAML 1.2\n---\n"}) {
    EXPECT_TRUE(yaml(text).documents.empty()) << text;
    EXPECT_TRUE(yaml(text).complete) << text;
  }
}

TEST(Yaml, OneBadDocumentDoesNotTakeTheOthersDown) {
  Documents parsed = yaml("a: 1\n---\nb: [1, 2\nc: }\n---\nd: 4\n");
  EXPECT_FALSE(parsed.complete);
  ASSERT_EQ(parsed.documents.size(), 2u);
  EXPECT_EQ(parsed.documents[1].value, json({{"d", 4}}));
  ASSERT_EQ(parsed.findings.size(), 1u);
  EXPECT_EQ(parsed.findings[0].code, "WEIR0004");
  EXPECT_EQ(parsed.findings[0].file, "f.yaml");
  EXPECT_EQ(parsed.findings[0].line, 4);
}

TEST(Yaml, ReportsWhatIsWrongWithItsLine) {
  struct Case {
    const char* text;
    const char* code;
    int line;
    const char* message;
  };
  const Case kCases[] = {
      {"a: 1\nb: 2\na: 3\n", "WEIR0006", 3, "'a' appears twice"},
      {"a:\n\tb: 1\n", "WEIR0004", 2, "illegal"},
      {"a: 1\n? [x, y]\n: 2\n", "WEIR0004", 2, "key that is not a string"},
      {"a: 1\n~: 2\n", "WEIR0004", 2, "without a key"},
      {"a: &x [*x]\n", "WEIR0004", 1, "alias inside"},
      {"a: *nobody\n", "WEIR0004", 1, "not defined"},
      {"a: 1\n]\n", "WEIR0004", 2, ""},
      {"[a]]\n", "WEIR0004", 1, "illegal"},
      {"{a: 1} b\n", "WEIR0004", 1, "unexpected content"},
      {"a: \"\\q\"\n", "WEIR0004", 1, "escape"},
      {"a: 1\nb: \xff\n", "WEIR0004", 2, "UTF-8"},
      {"a: \xed\xa0\x80\n", "WEIR0004", 1, "UTF-8"},
      {"\xff\xfe\x61", "WEIR0004", 1, "UTF-8"},
      {"- a\n- b\n", "WEIR0007", 1, "not a Kubernetes object"},
      {"\nhello\n", "WEIR0007", 2, "not a Kubernetes object"},
      {"a: {<<: 5}\n", "WEIR0004", 1, "<<"},
  };
  for (const Case& c : kCases) {
    Documents parsed = yaml(c.text);
    EXPECT_FALSE(parsed.complete) << c.text;
    ASSERT_EQ(parsed.findings.size(), 1u) << c.text;
    EXPECT_EQ(parsed.findings[0].code, c.code) << c.text << parsed.findings[0].message;
    EXPECT_EQ(parsed.findings[0].line, c.line) << c.text << parsed.findings[0].message;
    EXPECT_THAT(parsed.findings[0].message, HasSubstr(c.message)) << c.text;
  }
  EXPECT_THAT(yaml("a:\n\tb: 1\n").findings[0].fix, HasSubstr("spaces"));
}

TEST(Yaml, TakesAliasesMergesAndScalarKeys) {
  Documents parsed = yaml(
      "base: &base {a: 1, b: 2}\nalso: *base\nmerged:\n  <<: *base\n  b: 3\nmany: {<<: [*base, {c: 4}], d: 5}\n"
      "1: one\ntrue: t\nquoted: {'<<': x}\n&k key: v\nother: {*k : w}\n");
  ASSERT_EQ(parsed.documents.size(), 1u) << codes(parsed.findings);
  const json& value = parsed.documents[0].value;
  EXPECT_EQ(value["also"], json({{"a", 1}, {"b", 2}}));
  EXPECT_EQ(value["merged"], json({{"a", 1}, {"b", 3}}));
  EXPECT_EQ(value["many"], json({{"a", 1}, {"b", 2}, {"c", 4}, {"d", 5}}));
  EXPECT_EQ(value["1"], "one");
  EXPECT_EQ(value["true"], "t");
  EXPECT_EQ(value["quoted"], json({{"<<", "x"}}));
  EXPECT_EQ(value["other"], json({{"key", "w"}}));
}

TEST(Limits, StopBombs) {
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    std::string before = "*a" + std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int k = 0; k < 9; ++k) laughs += ", " + before;
    laughs += "]\n";
  }
  std::string text_bomb = "a: &a " + std::string(1 << 20, 'x') + "\nb:\n";
  for (int i = 0; i < 100; ++i) text_bomb += "- *a\n";
  std::string deep_chain = "a0: &a0 [x]\n";
  for (int i = 1; i < 200; ++i) {
    deep_chain += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [[*a" + std::to_string(i - 1) + "]]\n";
  }
  for (const std::string& text :
       {laughs, text_bomb, deep_chain, "a: " + std::string(100, '[') + std::string(100, ']'), std::string(1 << 20, '['),
        std::string(1 << 20, '{'), "[" + std::string(1 << 20, ',') + "]"}) {
    Documents parsed = yaml(text);
    EXPECT_FALSE(parsed.complete) << text.substr(0, 40);
    ASSERT_EQ(parsed.findings.size(), 1u);
    EXPECT_THAT(parsed.findings[0].code, testing::AnyOf("WEIR0005", "WEIR0004")) << text.substr(0, 40);
  }
  EXPECT_EQ(codes(yaml(laughs).findings), "WEIR0005");
  EXPECT_EQ(codes(yaml(text_bomb).findings), "WEIR0005");
  EXPECT_EQ(codes(yaml(deep_chain).findings), "WEIR0005");
  EXPECT_EQ(codes(json_text(std::string(100'000, '[')).findings), "WEIR0005");

  std::string many = "---\na: 1\n";
  for (size_t i = 0; i < kMaxDocuments; ++i) many += "---\na\n";
  Documents parsed = yaml(many);
  EXPECT_FALSE(parsed.complete);
  ASSERT_EQ(parsed.findings.size(), 51u);
  EXPECT_EQ(parsed.findings.back().code, "WEIR0008");
  EXPECT_THAT(parsed.findings.back().message, testing::HasSubstr(std::to_string(kMaxDocuments - 50) + " more"));
}

TEST(Limits, RefuseALargeFile) {
  std::string text = "a: |\n";
  while (text.size() < 10'000'000) text += "  0123456789012345678901234567890123456789012345678901234567890123456789\n";
  Documents parsed = yaml(text);
  EXPECT_TRUE(parsed.documents.empty());
  EXPECT_FALSE(parsed.complete);
  EXPECT_EQ(codes(parsed.findings), "WEIR0003");
  std::string largest = "a: " + std::string(kMaxFileBytes - 3, 'x');
  EXPECT_TRUE(yaml(largest).complete);
  EXPECT_EQ(codes(yaml(largest + "x").findings), "WEIR0003");
}

TEST(Json, KeepsLines) {
  Documents parsed = json_text("\n{\n \"a\": {\n  \"b\":\n   5,\n  \"c\": [1,\n 2]}}\n");
  ASSERT_EQ(parsed.documents.size(), 1u);
  const Document& document = parsed.documents[0];
  EXPECT_EQ(document.value, json::parse(R"({"a":{"b":5,"c":[1,2]}})"));
  uint64_t a = LineTable::child(document.path, "a");
  EXPECT_EQ(document.line, 2);
  EXPECT_EQ(document.lines->find(a), 3);
  EXPECT_EQ(document.lines->find(LineTable::child(a, "b")), 5);
  EXPECT_EQ(document.lines->find(LineTable::child(LineTable::child(a, "c"), size_t{1})), 7);
  EXPECT_EQ(document.lines->find(LineTable::child(a, "nothing")), 0);
}

TEST(Json, ReportsWhatIsWrongWithItsLine) {
  struct Case {
    const char* text;
    const char* code;
    int line;
  };
  const Case kCases[] = {
      {"{\n\"a\": 1,\n\"a\": 2}", "WEIR0006", 3},
      {"{\"a\":\n}", "WEIR0004", 2},
      {"{} {}", "WEIR0004", 1},
      {"{\"a\": 01}", "WEIR0004", 1},
      {"{\"a\": 1e999}", "WEIR0004", 1},
      {"{\"a\": NaN}", "WEIR0004", 1},
      {"[1]", "WEIR0007", 1},
      {"{\"a\"", "WEIR0004", 1},
      {"{\"a\": \"\\ud800\"}", "WEIR0004", 1},
  };
  for (const Case& c : kCases) {
    Documents parsed = json_text(c.text);
    ASSERT_EQ(parsed.findings.size(), 1u) << c.text;
    EXPECT_EQ(parsed.findings[0].code, c.code) << c.text;
    EXPECT_EQ(parsed.findings[0].line, c.line) << c.text;
  }
  EXPECT_TRUE(json_text(" \n").complete);
  EXPECT_EQ(json_text(R"({"<<": {"a": 1}})").documents[0].value, json::parse(R"({"<<":{"a":1}})"));
}

TEST(Lists, AreFlattened) {
  Documents parsed = yaml(
      "kind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: BList\n  apiVersion: g/v1\n  items:\n  - x: 1\n"
      "  - kind: C\n    apiVersion: h/v2\n- kind: List\n  items: []\n- 5\n");
  ASSERT_EQ(parsed.documents.size(), 3u);
  EXPECT_EQ(parsed.documents[0].value, json::parse(R"({"kind":"A"})")) << "a plain List says nothing of its items";
  EXPECT_EQ(parsed.documents[1].value, json::parse(R"({"kind":"B","apiVersion":"g/v1","x":1})"));
  EXPECT_EQ(parsed.documents[2].value, json::parse(R"({"kind":"C","apiVersion":"h/v2"})"));
  EXPECT_EQ(parsed.documents[1].line, 8);
  EXPECT_EQ(codes(parsed.findings), "WEIR0007");
  EXPECT_EQ(parsed.findings[0].line, 13);
  EXPECT_EQ(parsed.documents[1].lines->find(LineTable::child(parsed.documents[1].path, "x")), 8);
}

}  // namespace
}  // namespace weir::kubernetes
