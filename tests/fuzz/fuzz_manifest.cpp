// Manifest text -> objects -> Snapshot, twice, so that the rules for last good
// versions run too. The first byte chooses YAML or JSON. Links weir_kubernetes.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kubernetes/decode.h"
#include "kubernetes/object_store.h"
#include "kubernetes/translate.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace weir::kubernetes;
  if (size == 0) return 0;
  const char* file = data[0] & 1 ? "fuzz.json" : "fuzz.yaml";
  std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  ObjectStore store;
  Translator translator({});
  store.replace(file, read_manifest(text, file));
  auto first = translator.build(store, nullptr);
  size_t before = store.size();
  // The same again changes nothing; half of it removes no object by being malformed.
  if (store.replace(file, read_manifest(text, file)) || store.size() != before) std::abort();
  SourceContents half = read_manifest(text.substr(0, text.size() / 2), file);
  bool complete = half.complete;
  store.replace(file, std::move(half));
  if (!complete && store.size() < before) std::abort();
  auto second = translator.build(store, first.get());
  for (const auto* places : {&second->directory->by_address, second->by_endpoint.get()}) {
    for (const auto& [address, place] : *places)
      if (place.port >= second->services[place.service]->ports.size()) std::abort();
  }
  return 0;
}
