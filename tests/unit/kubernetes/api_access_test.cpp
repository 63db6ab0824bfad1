// What a pod is given. Kubeconfigs: tests/kubernetes/test_api_access.py.
#include "kubernetes/api_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace weir::kubernetes {
namespace {

using testing::HasSubstr;

class InCluster : public testing::Test {
 protected:
  InCluster() : folder(testing::TempDir() + "weir-service-account") {
    std::filesystem::create_directories(folder);
    for (const char* name : {"ca.crt", "token"}) std::ofstream(folder + "/" + name) << name;
    set("10.96.0.1", "443");
  }
  ~InCluster() override {
    std::filesystem::remove_all(folder);
    set(nullptr, nullptr);
  }
  static void set(const char* host, const char* port) {
    const auto give = [](const char* name, const char* value) {
      return value ? setenv(name, value, 1) : unsetenv(name);
    };
    give("KUBERNETES_SERVICE_HOST", host);
    give("KUBERNETES_SERVICE_PORT", port);
  }
  const std::string folder;
};

TEST_F(InCluster, IsWhatKubeletGivesToAPod) {
  auto access = in_cluster_access(folder);
  ASSERT_TRUE(access) << access.error().message;
  EXPECT_EQ(access->server, "https://10.96.0.1:443");
  EXPECT_EQ(access->ca_file, folder + "/ca.crt");
  EXPECT_EQ(access->token_file, folder + "/token");
  EXPECT_EQ(access->token, "") << "kubelet renews the file";
  EXPECT_EQ(access->ca_pem, "");
  EXPECT_FALSE(access->insecure);
}

TEST_F(InCluster, AnIPv6AddressIsBracketed) {
  set("fd00:10:96::1", "6443");
  EXPECT_EQ(in_cluster_access(folder)->server, "https://[fd00:10:96::1]:6443");
}

TEST_F(InCluster, OutsideOfAClusterItSaysWhatToGive) {
  const std::pair<const char*, const char*> cases[] = {{nullptr, "443"}, {"10.96.0.1", nullptr}, {"", ""}};
  for (const auto& [host, port] : cases) {
    set(host, port);
    auto access = in_cluster_access(folder);
    ASSERT_FALSE(access);
    EXPECT_THAT(access.error().message, HasSubstr("--kubeconfig"));
  }
}

TEST_F(InCluster, NamesTheFileThatIsMissing) {
  for (const char* name : {"token", "ca.crt"}) {  // as with automountServiceAccountToken: false
    std::filesystem::remove(folder + "/" + name);
    auto access = in_cluster_access(folder);
    ASSERT_FALSE(access);
    EXPECT_THAT(access.error().message, HasSubstr(folder + "/" + name));
  }
}

}  // namespace
}  // namespace weir::kubernetes
