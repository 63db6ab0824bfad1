#include <gtest/gtest.h>

#include <string_view>

#include "detection/classify.h"

namespace weir::detection {
namespace {

TEST(MayBeHttp2, IsTrueForPrefixesOfThePrefaceAndWhatFollowsIt) {
  const struct {
    std::string_view bytes;
    bool may;
  } cases[] = {
      {"", true},
      {"P", true},
      {"PRI * HTTP/2.0\r\n", true},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes", true},
      {"G", false},
      {"PO", false},
      {"PRI * HTTP/1.1\r\n", false},
      {"PRI * HTTP/2.0\r\n\r\nXX", false},
      {"\x16", false},
  };
  for (const auto& c : cases) {
    const auto* data = reinterpret_cast<const uint8_t*>(c.bytes.data());
    EXPECT_EQ(may_be_http2({data, c.bytes.size()}), c.may) << c.bytes;
  }
}

}  // namespace
}  // namespace weir::detection
