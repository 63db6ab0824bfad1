#include "kubernetes/api_access.h"

#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "kubernetes/document.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

base::Result<std::string> contents_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) return base::system_error("read " + path, errno);
  return text.str();
}

std::optional<std::string> decode_base64(std::string text) {
  std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
  const size_t padding = text.size() - std::min(text.find('='), text.size());
  if (text.size() % 4 != 0 || padding > 2) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  bytes.resize(bytes.size() - padding);
  return bytes;
}

// A kubeconfig, for which the first thing that is wrong is kept.
class Kubeconfig {
 public:
  Kubeconfig(const json& root, std::string path) : root_(root), path_(std::move(path)) {}

  base::Result<ApiAccess> read() {
    const json& context = named("contexts", "context", text(root_, "current-context"));
    const json& cluster = named("clusters", "cluster", text(context, "cluster"));
    const json& user = named("users", "user", text(context, "user"));
    ApiAccess access;
    access.server = text(cluster, "server");
    while (access.server.ends_with('/')) access.server.pop_back();
    if (error_.empty() && !access.server.starts_with("http://") && !access.server.starts_with("https://"))
      fail("clusters[].cluster.server is no http:// or https:// address");
    access.insecure = cluster.contains("insecure-skip-tls-verify") && cluster["insecure-skip-tls-verify"] == true;
    read_pair(cluster, "certificate-authority", access.ca_file, access.ca_pem);
    read_pair(user, "client-certificate", access.certificate_file, access.certificate_pem);
    read_pair(user, "client-key", access.key_file, access.key_pem);
    access.token = text(user, "token");
    access.token_file = in_its_folder(text(user, "tokenFile"));
    if (!access.token_file.empty()) access.token.clear();
    for (const char* key : {"exec", "auth-provider", "username"})
      if (user.contains(key)) fail("weir has no " + std::string(key) + " of users: use a token or a certificate");
    for (const char* key : {"proxy-url", "tls-server-name"})
      if (cluster.contains(key)) fail("weir has no " + std::string(key) + " of clusters");
    if (!error_.empty()) return base::Error{"kubeconfig " + path_ + ": " + error_};
    return access;
  }

 private:
  void fail(std::string problem) {
    if (error_.empty()) error_ = std::move(problem);
  }

  static std::string text(const json& parent, const char* key) {
    const auto value = parent.find(key);
    return value != parent.end() && value->is_string() ? value->get<std::string>() : std::string();
  }

  // The `part` of the entry of that name in a list.
  const json& named(const char* list, const char* part, const std::string& name) {
    static const json nothing = json::object();
    const auto entries = root_.find(list);
    if (entries != root_.end() && entries->is_array()) {
      for (const json& entry : *entries) {
        if (!entry.is_object() || text(entry, "name") != name) continue;
        const auto found = entry.find(part);
        if (found != entry.end() && found->is_object()) return *found;
      }
    }
    fail("there is no '" + name + "' in " + list);
    return nothing;
  }

  // Relative names are relative to the kubeconfig.
  std::string in_its_folder(const std::string& file) const {
    if (file.empty() || file.starts_with('/')) return file;
    return (std::filesystem::path(path_).parent_path() / file).string();
  }

  void read_pair(const json& parent, const std::string& key, std::string& file, std::string& pem) {
    const std::string data = text(parent, (key + "-data").c_str());
    if (data.empty()) {
      file = in_its_folder(text(parent, key.c_str()));
    } else if (auto bytes = decode_base64(data)) {
      pem = std::move(*bytes);
    } else {
      fail(key + "-data is no base64");
    }
  }

  const json& root_;
  std::string path_, error_;
};

}  // namespace

base::Result<ApiAccess> in_cluster_access(const std::string& folder) {
  // At the start, when there is one thread.
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");  // NOLINT(concurrency-mt-unsafe)
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");  // NOLINT(concurrency-mt-unsafe)
  if (!host || !port || !*host || !*port)
    return base::Error{
        "this is no pod of a cluster (KUBERNETES_SERVICE_HOST is not set): give --kubeconfig or --manifests"};
  ApiAccess access;
  const std::string address = host;
  access.server = "https://" + (address.find(':') == std::string::npos ? address : "[" + address + "]") + ":" + port;
  access.ca_file = folder + "/ca.crt";
  access.token_file = folder + "/token";
  for (const std::string& file : {access.ca_file, access.token_file}) {
    if (::access(file.c_str(), R_OK) != 0) return base::system_error("read " + file, errno);
  }
  return access;
}

base::Result<ApiAccess> kubeconfig_access(const std::string& path) {
  auto contents = contents_of(path);
  if (!contents) return contents.error();
  const Documents parsed = parse_documents(*contents, path, path.ends_with(".json") ? Format::json : Format::yaml);
  if (parsed.documents.size() != 1 || !parsed.documents.front().value.is_object()) {
    const std::string why = parsed.findings.empty() ? "it is no YAML object" : parsed.findings.front().message;
    return base::Error{"kubeconfig " + path + ": " + why};
  }
  return Kubeconfig(parsed.documents.front().value, path).read();
}

}  // namespace weir::kubernetes
