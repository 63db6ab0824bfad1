// Where the API server is, and what the agent shows it: the service account of its pod, or a kubeconfig.
#pragma once

#include <string>

#include "base/result.h"

namespace weir::kubernetes {

// Of each pair (file, pem) at most one is set. Files are read anew for each connection, a token file for each request:
// the kubelet renews them.
struct ApiAccess {
  std::string server;           // "https://10.96.0.1:443", without a slash at the end
  std::string ca_file, ca_pem;  // neither: the system's
  std::string certificate_file, certificate_pem, key_file, key_pem;
  std::string token_file, token;
  bool insecure = false;  // the server's certificate is not checked
};

// As kubelet gives it to every pod. `folder` is the service account's.
base::Result<ApiAccess> in_cluster_access(const std::string& folder = "/var/run/secrets/kubernetes.io/serviceaccount");

// The current context of a kubeconfig. What it asks for and weir cannot do (exec plugins, a proxy) is an error.
base::Result<ApiAccess> kubeconfig_access(const std::string& path);

}  // namespace weir::kubernetes
