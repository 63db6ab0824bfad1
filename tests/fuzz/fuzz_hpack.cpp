// HPACK blocks through one decoder, and what it decodes through an encoder and back.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "http2/header_rules.h"
#include "http2/hpack.h"

using namespace weir;
using namespace weir::http2;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  const HeaderListLimits limits{input.ConsumeIntegralInRange<uint32_t>(0, 70000),
                                input.ConsumeIntegralInRange<uint32_t>(0, 120)};
  HpackDecoder decoder(4096), mirror(4096);
  HpackEncoder encoder(4096);
  while (input.remaining_bytes() > 0) {
    const std::vector<uint8_t> block = input.ConsumeBytes<uint8_t>(input.ConsumeIntegralInRange<size_t>(0, 2000));
    http::Headers headers;
    const auto outcome = decoder.decode(block, limits, headers);
    if (headers.size() > limits.max_fields || headers.bytes() > limits.max_size) std::abort();
    if (outcome == HpackDecoder::Outcome::broken) return 0;
    RequestHead request;
    ResponseHead response;
    check_request(headers, request);
    check_response(headers, response);
    check_trailers(headers);

    if (input.ConsumeBool()) encoder.set_peer_table_size(4096 / (1u + input.ConsumeIntegral<uint8_t>() % 8));
    std::vector<uint8_t> out(encoder.prepare(headers));
    out.resize(encoder.encode(out.data(), out.size()));
    http::Headers back;
    if (mirror.decode(out, HeaderListLimits{UINT32_MAX, UINT32_MAX}, back) != HpackDecoder::Outcome::ok) std::abort();
    if (back.size() != headers.size()) std::abort();
    for (size_t i = 0; i < headers.size(); ++i) {
      if (back[i].name != headers[i].name || back[i].value != headers[i].value) std::abort();
    }
  }
  return 0;
}
