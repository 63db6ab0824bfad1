// Short ways to write manifests in the tests of this folder, and to look at
// what became of them.
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "kubernetes/decode.h"
#include "kubernetes/object_store.h"
#include "kubernetes/translate.h"

namespace weir::kubernetes {

inline std::string file_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

inline std::string codes(const std::vector<config::Finding>& findings) {
  std::vector<std::string> all;
  for (const config::Finding& finding : findings) all.push_back(finding.code);
  std::sort(all.begin(), all.end());
  std::string text;
  for (const std::string& code : all) text += (text.empty() ? "" : " ") + code;
  return text;
}

inline void PrintTo(const SourceContents& contents, std::ostream* out) {
  *out << contents.objects.size() << " objects, " << contents.rejected.size() << " rejected";
  for (const config::Finding& finding : contents.findings) {
    *out << "\n  " << finding.file << ":" << finding.line << " " << finding.code << " " << finding.object << " "
         << finding.message;
  }
}

// A Snapshot from manifests, each its own file: 0.yaml, 1.yaml, ...
class World {
 public:
  explicit World(std::vector<std::string> manifests = {}, ClusterSettings settings = {})
      : translator_(std::move(settings)) {
    for (size_t i = 0; i < manifests.size(); ++i) set(std::to_string(i) + ".yaml", manifests[i]);
  }

  bool set(const std::string& file, const std::string& text) { return store.replace(file, read_manifest(text, file)); }
  std::shared_ptr<const config::Snapshot> build() {
    snapshot = translator_.build(store, snapshot.get());
    return snapshot;
  }
  const config::Service* service(const std::string& name) const {
    for (const auto& service : snapshot->services) {
      if (service->name == name) return service.get();
    }
    return nullptr;
  }
  // "10.0.0.1:80 10.0.0.2:80"
  std::string endpoints(const std::string& name, uint16_t port) const {
    const config::Service* found = service(name);
    if (!found || !found->find_port(port)) return "no such port";
    std::string text;
    for (const config::Endpoint& endpoint : found->find_port(port)->cluster->endpoints) {
      text += (text.empty() ? "" : " ") + endpoint.address.to_string();
    }
    return text;
  }
  std::vector<config::Finding> findings(const std::string& code) const {
    std::vector<config::Finding> result;
    for (const config::Finding& finding : *snapshot->findings) {
      if (finding.code == code) result.push_back(finding);
    }
    return result;
  }

  ObjectStore store;
  std::shared_ptr<const config::Snapshot> snapshot;

 private:
  Translator translator_;
};

}  // namespace weir::kubernetes
