#include "interception/libbpf_log.h"

#include <gtest/gtest.h>

namespace weir::interception {
namespace {

struct Case {
  const char* text;
  size_t count;
  const char* expected;
};

const Case kCases[] = {
    {"", 3, ""},
    {"\n\n", 3, ""},
    {"one", 0, ""},
    {"one", 1, "one"},
    {"one\ntwo\nthree\n", 2, "two\nthree"},
    {"one\ntwo\nthree\n\n", 1, "three"},
    {"one\ntwo\n", 2, "one\ntwo"},
    {"one\ntwo\n", 9, "one\ntwo"},
    {"\none\n", 1, "one"},
    {"\none\n", 2, "\none"},
};

TEST(LibbpfLog, LastLines) {
  for (const Case& c : kCases) EXPECT_EQ(last_lines_of(c.text, c.count), c.expected) << '"' << c.text << '"';
}

}  // namespace
}  // namespace weir::interception
