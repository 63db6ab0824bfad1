// Sources of a small agent for the tests of the admin server.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "admin/sources.h"

namespace weir::admin {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/weir-admin-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryFolder() {
    ::unlink((path_ + "/admin.sock").c_str());
    ::rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline base::SocketAddress address(const char* ip, uint16_t port) { return {*base::IpAddress::parse(ip), port}; }

inline std::shared_ptr<config::Snapshot> small_snapshot() {
  auto cluster = std::make_shared<config::Cluster>();
  cluster->name = "outbound|50051||greeter.default.svc.cluster.local";
  cluster->endpoints = {{address("10.0.0.1", 50051), "greeter-1", "node-a"}, {address("fd00::2", 50051), "", ""}};
  auto service = std::make_shared<config::Service>();
  service->namespace_name = "default";
  service->name = "greeter";
  service->fqdn = "greeter.default.svc.cluster.local";
  service->vips = {*base::IpAddress::parse("10.96.0.10")};
  config::ServicePort grpc, none;
  grpc.name = "grpc";
  grpc.port = 50051;
  grpc.protocol = config::Protocol::grpc;
  grpc.mode = config::Mode::l7;
  grpc.mode_reason = "port name grpc";
  grpc.cluster = cluster;
  none.port = 443;
  none.protocol = config::Protocol::tls;
  service->ports = {grpc, none};
  auto other = std::make_shared<config::Service>();
  other->namespace_name = "default";
  other->name = "other-greeter";
  auto pod = std::make_shared<config::Pod>();
  pod->namespace_name = "default";
  pod->name = "client";
  pod->uid = "uid-1";
  pod->ips = {*base::IpAddress::parse("10.0.1.5")};
  pod->dataplane = config::Dataplane::enabled;
  pod->refusal = "has an istio-proxy container";
  pod->excluded_ports = {9090};
  auto snapshot = std::make_shared<config::Snapshot>();
  snapshot->revision = 7;
  snapshot->services = {service, other};
  snapshot->pods = {pod};
  snapshot->findings = std::make_shared<const std::vector<config::Finding>>(std::vector<config::Finding>{
      {"WEIR0101", config::Severity::warning, "a.yaml", 3, "Service default/greeter", "is odd", "fix"},
      {"WEIR0102", config::Severity::info, "", 0, "Service default/other-greeter", "hm", ""}});
  return snapshot;
}

}  // namespace weir::admin
