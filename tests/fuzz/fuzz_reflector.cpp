// An API server that says anything: lists, events of watches, errors, in pieces of any size, with any status. The
// reflector must go on, ask for something sensible, and tell of no object twice in one list.
//   Input: [status choice, length of the piece, bytes ...] again and again; a length of 0 ends the answer, which then
//   has lasted that choice times 8 ms. An odd first byte: of a CRD, which may be missing.
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "kubernetes/object_store.h"
#include "kubernetes/reflector.h"

namespace {

using namespace weir;
using namespace weir::kubernetes;

constexpr int kStatus[] = {200, 200, 200, 200, 400, 401, 403, 404, 410, 422, 429, 500, 503, 0, 200, 200};

void apply(ObjectStore& store, ApiChange& change) {
  if (auto* put = std::get_if<ApiChange::Put>(&change.what)) {
    store.apply("api", std::move(put->object), std::move(put->findings));
  } else if (auto* rejected = std::get_if<ApiChange::Rejected>(&change.what)) {
    store.reject("api", rejected->key, std::move(rejected->findings));
  } else if (auto* noted = std::get_if<ApiChange::Noted>(&change.what)) {
    store.note("api", noted->key, std::move(noted->findings));
  } else if (auto* removed = std::get_if<ApiChange::Removed>(&change.what)) {
    store.remove("api", removed->key);
  } else {
    const auto& keys = std::get<ApiChange::Retained>(change.what).keys;
    store.retain("api", keys);
    if (store.size() > keys.size()) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<ApiChange> changes;
  ObjectStore store;
  Resource resource{"services", "Service", Kind::service, {{"v1", "/api/v1/services"}, {"v2", "/api/v2/services"}}};
  if (size > 0 && (data[0] & 1)) resource.group = "group";
  Reflector reflector(resource, {}, size, &changes);
  base::Instant now{};
  bool running = false;
  size_t at = 0;
  while (at + 2 <= size) {
    if (!running) {
      // Who looks for the group says so some time.
      if (!reflector.due() && reflector.missing()) reflector.start_over(now);
      const auto due = reflector.due();
      if (!due || *due > now + std::chrono::minutes(3)) std::abort();
      now = std::max(now, *due);
      if (!reflector.begin(now).target.starts_with("/api/v")) std::abort();
      reflector.on_head(kStatus[data[at] & 15], std::nullopt);
      running = true;
    }
    const size_t length = std::min<size_t>(data[at + 1], size - at - 2);
    const std::string_view bytes(reinterpret_cast<const char*>(data + at + 2), length);
    at += 2 + length;
    const bool more = reflector.on_bytes(bytes);
    if (!more || length == 0) {
      now += std::chrono::milliseconds(data[at - 1 - length] * 8);
      reflector.on_end(now, more ? "" : "given up");
      running = false;
    }
    for (ApiChange& change : changes) apply(store, change);
    changes.clear();
  }
  return 0;
}
