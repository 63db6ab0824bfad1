#include "detection/classify.h"

#include <gtest/gtest.h>

#include <string>

namespace weir::detection {
namespace {

struct Case {
  const char* name;
  std::string bytes;
  Protocol verdict;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Protocol classify_text(const std::string& text) {
  return classify({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const std::string kClientHello("\x16\x03\x01\x00\xf4\x01\x00", 7);

class ClassifyTest : public ::testing::TestWithParam<Case> {};
TEST_P(ClassifyTest, Verdict) { EXPECT_EQ(classify_text(GetParam().bytes), GetParam().verdict); }

INSTANTIATE_TEST_SUITE_P(
    FirstBytes, ClassifyTest,
    ::testing::Values(Case{"nothing", "", Protocol::need_more},                          //
                      Case{"preface", kPreface, Protocol::http2},                        //
                      Case{"preface and more", kPreface + "anything", Protocol::http2},  //
                      Case{"preface broken at its end", kPreface.substr(0, 23) + "x", Protocol::opaque},
                      Case{"PRI of HTTP/1", "PRI * HTTP/1.1\r\n", Protocol::opaque},  //
                      Case{"P", "P", Protocol::need_more},                            //
                      Case{"PU", "PU", Protocol::need_more},                          //
                      Case{"PX", "PX", Protocol::opaque},                             //
                      Case{"GET", "GET / HTTP/1.1\r\n", Protocol::http1},             //
                      Case{"GET without blank", "GET", Protocol::need_more},          //
                      Case{"GETX", "GETX", Protocol::opaque},                         //
                      Case{"lower case", "get / ", Protocol::opaque},                 //
                      Case{"POST", "POST ", Protocol::http1},                         //
                      Case{"OPTIONS", "OPTIONS *", Protocol::http1},                  //
                      Case{"ClientHello", kClientHello, Protocol::tls},               //
                      Case{"TLS alert", std::string("\x15\x03\x01\x00\x02\x02", 6), Protocol::opaque},
                      Case{"TLS of major version 2", std::string("\x16\x02", 2), Protocol::opaque},
                      Case{"TLS record too long", std::string("\x16\x03\x01\x50\x00\x01", 6), Protocol::opaque},
                      Case{"TLS record too short", std::string("\x16\x03\x01\x00\x03\x01", 6), Protocol::opaque},
                      Case{"ServerHello", std::string("\x16\x03\x03\x00\x40\x02", 6), Protocol::opaque},
                      Case{"redis", "*1\r\n$4\r\nPING\r\n", Protocol::opaque},  //
                      Case{"ssh", "SSH-2.0-x", Protocol::opaque},               //
                      Case{"zero", std::string(1, '\0'), Protocol::opaque}));

TEST(ClassifyTest, EveryStrictPrefixNeedsMore) {
  for (size_t n = 0; n < kPreface.size(); ++n)
    EXPECT_EQ(classify_text(kPreface.substr(0, n)), Protocol::need_more) << n;
  for (size_t n = 0; n < 6; ++n) EXPECT_EQ(classify_text(kClientHello.substr(0, n)), Protocol::need_more) << n;
}

TEST(ClassifyTest, AnyOtherByteInThePrefaceIsNotHttp2) {
  for (size_t at = 0; at < kPreface.size(); ++at) {
    std::string bytes = kPreface;
    bytes[at] = '\x01';
    EXPECT_EQ(classify_text(bytes), Protocol::opaque) << at;
  }
}

}  // namespace
}  // namespace weir::detection
