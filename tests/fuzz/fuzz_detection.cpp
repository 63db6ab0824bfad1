// First bytes: a verdict once given never changes, whatever follows.
#include <cstdint>
#include <cstdlib>

#include "detection/classify.h"
#include "grpc/message.h"
#include "grpc/status.h"
#include "grpc/timeout.h"

using weir::detection::Protocol;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Protocol verdict = Protocol::need_more;
  for (size_t n = 0; n <= size && n < 64; ++n) {
    const Protocol now = weir::detection::classify({data, n});
    if (verdict != Protocol::need_more && now != verdict) std::abort();
    if (n >= 24 && now == Protocol::need_more) std::abort();
    verdict = now;
  }

  // What can't be the one or the other stays so.
  bool preface = true, settings = true;
  for (size_t n = 0; n <= size && n < 64; ++n) {
    if ((!preface && weir::detection::may_be_http2({data, n})) ||
        (!settings && weir::detection::may_be_settings({data, n})))
      std::abort();
    preface = weir::detection::may_be_http2({data, n});
    settings = weir::detection::may_be_settings({data, n});
    if (weir::detection::begins_with_settings({data, n}) && !settings) std::abort();
  }

  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (weir::grpc::percent_decode(weir::grpc::percent_encode(text)) != text) std::abort();
  weir::grpc::percent_decode(text);
  weir::grpc::parse_status(text);
  if (const auto timeout = weir::grpc::parse_timeout(text)) {
    const auto again = weir::grpc::parse_timeout(weir::grpc::TimeoutText(*timeout).view());
    if (!again || (timeout->count() > 0 && *again < *timeout)) std::abort();
  }
  weir::grpc::MessageCounter whole, parts;
  whole.add({data, size});
  for (size_t i = 0; i < size; ++i) parts.add({data + i, 1});
  if (whole.complete() != parts.complete() || whole.at_boundary() != parts.at_boundary()) std::abort();
  return 0;
}
