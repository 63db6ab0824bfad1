#include "http2/header_rules.h"

#include <gtest/gtest.h>

#include "endpoint.h"

namespace weir::http2::testing {
namespace {

struct Case {
  const char* name;
  Fields fields;
  const char* wrong;  // part of the complaint, null for a well-formed section
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Fields with(Fields fields, const Fields& more) {
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

// A request whose pseudo-header fields are these four.
Fields request(const char* method, const char* scheme, const char* path, const char* authority) {
  return {{":method", method}, {":scheme", scheme}, {":path", path}, {":authority", authority}};
}

const Fields kGet = request("GET", "http", "/", "a");
const Fields kNoAuthority = {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}};

void expect_verdict(const Case& c, const char* verdict) {
  if (!c.wrong) {
    EXPECT_EQ(verdict, nullptr) << verdict;
  } else {
    ASSERT_NE(verdict, nullptr);
    EXPECT_NE(std::string(verdict).find(c.wrong), std::string::npos) << verdict;
  }
}

class RequestTest : public ::testing::TestWithParam<Case> {};
TEST_P(RequestTest, Verdict) {
  RequestHead head;
  expect_verdict(GetParam(), check_request(to_headers(GetParam().fields), head));
}
INSTANTIATE_TEST_SUITE_P(
    Rules, RequestTest,
    ::testing::Values(Case{"grpc", grpc_request(), nullptr},  //
                      Case{"no authority", kNoAuthority, nullptr},
                      Case{"host for authority", with(kNoAuthority, {{"host", "a"}}), nullptr},
                      Case{"same host in another case", with(kGet, {{"host", "A"}}), nullptr},
                      Case{"another host", with(kGet, {{"host", "b"}}), "host differs"},
                      Case{"two hosts", with(kNoAuthority, {{"host", "a"}, {"host", "a"}}), "more than one host"},
                      Case{"empty section", {}, ":method"},
                      Case{"no method", {{":scheme", "http"}, {":path", "/"}}, ":method"},
                      Case{"empty method", request("", "http", "/", "a"), ":method"},
                      Case{"method with a blank", request("GE T", "http", "/", "a"), ":method"},
                      Case{"no scheme", {{":method", "GET"}, {":path", "/"}}, ":scheme"},
                      Case{"empty scheme", request("GET", "", "/", "a"), ":scheme"},
                      Case{"scheme that begins with a digit", request("GET", "1a", "/", "a"), ":scheme"},
                      Case{"no path", {{":method", "GET"}, {":scheme", "http"}}, ":path"},
                      Case{"empty path", request("GET", "http", "", "a"), ":path"},
                      Case{"path without slash", request("GET", "http", "x", "a"), "begin with /"},
                      Case{"path with a blank", request("GET", "http", "/a b", "a"), ":path"},
                      Case{"asterisk", request("OPTIONS", "http", "*", "a"), nullptr},
                      Case{"asterisk without OPTIONS", request("GET", "http", "*", "a"), "begin with /"},
                      Case{"userinfo", request("GET", "http", "/", "me@a"), ":authority"},
                      Case{"repeated path", with(kGet, {{":path", "/"}}), "repeated"},
                      Case{"status in a request", with(kGet, {{":status", "200"}}), "unknown pseudo"},
                      Case{"unknown pseudo-header field", with(kGet, {{":x", "1"}}), "unknown pseudo"},
                      Case{"empty pseudo-header name", with(kGet, {{":", "1"}}), "unknown pseudo"},
                      Case{"pseudo after regular",
                           {{":method", "GET"}, {"a", "b"}, {":scheme", "http"}, {":path", "/"}},
                           "after a regular"},
                      Case{"CONNECT", {{":method", "CONNECT"}, {":authority", "a:1"}}, nullptr},
                      Case{"CONNECT without authority", {{":method", "CONNECT"}}, ":authority"},
                      Case{"CONNECT with path", request("CONNECT", "http", "/", "a"), "CONNECT with"},
                      Case{"extended CONNECT", with(request("CONNECT", "http", "/", "a"), {{":protocol", "websocket"}}),
                           "unknown pseudo"},
                      Case{"upper case name", with(kGet, {{"Accept", "x"}}), "field name"},
                      Case{"empty name", with(kGet, {{"", "x"}}), "empty field name"},
                      Case{"colon inside a name", with(kGet, {{"a:b", "x"}}), "field name"},
                      Case{"blank in a name", with(kGet, {{"a b", "x"}}), "field name"},
                      Case{"NUL in a name", with(kGet, {{std::string("a\0b", 3), "x"}}), "field name"},
                      Case{"high byte in a name", with(kGet, {{"a\xc3", "x"}}), "field name"},
                      Case{"all token characters", with(kGet, {{"!#$%&'*+-.^_`|~09az", "x"}}), nullptr},
                      Case{"empty value", with(kGet, {{"a", ""}}), nullptr},
                      Case{"high bytes in a value", with(kGet, {{"a", "gr\xc3\xbc\xc3\x9f"}}), nullptr},
                      Case{"HTAB inside a value", with(kGet, {{"a", "b\tc"}}), nullptr},
                      Case{"HTAB inside a long value", with(kGet, {{"a", "0123456789\tabcdefghij"}}), nullptr},
                      Case{"leading space", with(kGet, {{"a", " b"}}), "field value"},
                      Case{"trailing HTAB", with(kGet, {{"a", "b\t"}}), "field value"},
                      Case{"CR in a value", with(kGet, {{"a", "b\rc"}}), "field value"},
                      Case{"LF in a value", with(kGet, {{"a", "b\nc"}}), "field value"},
                      Case{"LF in a path", request("GET", "http", "/\nx: y", "a"), "field value"},
                      Case{"NUL in a short value", with(kGet, {{"a", std::string("b\0c", 3)}}), "field value"},
                      Case{"NUL at the end of a long value",
                           with(kGet, {{"a", std::string("01234567890123456789\0", 21)}}), "field value"},
                      Case{"DEL in a long value",
                           with(kGet, {{"a",
                                        "0123456789\x7f"
                                        "abcdefghij"}}),
                           "field value"},
                      Case{"connection", with(kGet, {{"connection", "close"}}), "connection-specific"},
                      Case{"keep-alive", with(kGet, {{"keep-alive", "1"}}), "connection-specific"},
                      Case{"proxy-connection", with(kGet, {{"proxy-connection", "x"}}), "connection-specific"},
                      Case{"transfer-encoding", with(kGet, {{"transfer-encoding", "chunked"}}), "connection-specific"},
                      Case{"upgrade", with(kGet, {{"upgrade", "h2c"}}), "connection-specific"},
                      Case{"te trailers", with(kGet, {{"te", "trailers"}}), nullptr},
                      Case{"te gzip", with(kGet, {{"te", "gzip"}}), "te other"},
                      Case{"te with more", with(kGet, {{"te", "trailers, deflate"}}), "te other"},
                      Case{"content-length", with(kGet, {{"content-length", "12"}}), nullptr},
                      Case{"content-length repeated", with(kGet, {{"content-length", "1"}, {"content-length", "1"}}),
                           "more than one"},
                      Case{"content-length signed", with(kGet, {{"content-length", "+1"}}), "no number"},
                      Case{"content-length list", with(kGet, {{"content-length", "1,1"}}), "no number"},
                      Case{"content-length empty", with(kGet, {{"content-length", ""}}), "no number"},
                      Case{"content-length above 2^63", with(kGet, {{"content-length", "9999999999999999999"}}),
                           "no number"}));

TEST(RequestHeadTest, SaysWhatTheEngineNeeds) {
  RequestHead head;
  ASSERT_EQ(check_request(to_headers(with(kGet, {{"content-length", "000012"}})), head), nullptr);
  EXPECT_EQ(head.content_length, 12u);
  EXPECT_FALSE(head.connect);
  RequestHead connect;
  ASSERT_EQ(check_request(to_headers({{":method", "CONNECT"}, {":authority", "a:1"}}), connect), nullptr);
  EXPECT_TRUE(connect.connect);
}

TEST(ValueTest, EveryControlCharacterIsFoundAtEveryPosition) {
  for (size_t size = 1; size < 20; ++size) {
    for (size_t at = 0; at < size; ++at) {
      for (int c = 0; c < 256; ++c) {
        std::string value(size, 'x');
        value[at] = static_cast<char>(c);
        const bool end = at == 0 || at == size - 1;
        const bool bad = (c < 0x20 && c != '\t') || c == 0x7f || (end && (c == ' ' || c == '\t'));
        ASSERT_EQ(check_trailers(to_headers({{"a", value}})) != nullptr, bad) << size << " " << at << " " << c;
      }
    }
  }
}

class ResponseTest : public ::testing::TestWithParam<Case> {};
TEST_P(ResponseTest, Verdict) {
  ResponseHead head;
  expect_verdict(GetParam(), check_response(to_headers(GetParam().fields), head));
}
INSTANTIATE_TEST_SUITE_P(
    Rules, ResponseTest,
    ::testing::Values(Case{"200", {{":status", "200"}, {"a", "b"}}, nullptr},                      //
                      Case{"100", {{":status", "100"}}, nullptr},                                  //
                      Case{"101", {{":status", "101"}}, "101"},                                    //
                      Case{"none", {{"a", "b"}}, ":status"},                                       //
                      Case{"two digits", {{":status", "20"}}, ":status"},                          //
                      Case{"four digits", {{":status", "2000"}}, ":status"},                       //
                      Case{"below 100", {{":status", "020"}}, ":status"},                          //
                      Case{"letters", {{":status", "2x0"}}, ":status"},                            //
                      Case{"twice", {{":status", "200"}, {":status", "200"}}, "repeated"},         //
                      Case{"path", {{":status", "200"}, {":path", "/"}}, "unknown pseudo"},        //
                      Case{"after regular", {{"a", "b"}, {":status", "200"}}, "after a regular"},  //
                      Case{"connection", {{":status", "200"}, {"connection", "x"}}, "connection-"}));

class TrailersTest : public ::testing::TestWithParam<Case> {};
TEST_P(TrailersTest, Verdict) { expect_verdict(GetParam(), check_trailers(to_headers(GetParam().fields))); }
INSTANTIATE_TEST_SUITE_P(Rules, TrailersTest,
                         ::testing::Values(Case{"status", {{"grpc-status", "0"}, {"grpc-message", ""}}, nullptr},
                                           Case{"empty", {}, nullptr},  //
                                           Case{"pseudo", {{":status", "200"}}, "pseudo-header field in trailers"},
                                           Case{"upper case", {{"Grpc-Status", "0"}}, "field name"},
                                           Case{"upgrade", {{"upgrade", "x"}}, "connection-specific"}));

}  // namespace
}  // namespace weir::http2::testing
