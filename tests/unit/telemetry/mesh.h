// A small mesh for the tests: a client pod, a service with three backends, RPCs from one to the other.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "telemetry/access_log.h"
#include "telemetry/recorder.h"

namespace weir::telemetry {

inline base::SocketAddress address(const char* ip, uint16_t port) { return {*base::IpAddress::parse(ip), port}; }

// A folder that is gone with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/weir-telemetry-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryFolder() {
    ::unlink((path_ + "/log").c_str());
    ::rmdir(path_.c_str());
  }
  std::string log() const { return path_ + "/log"; }

 private:
  std::string path_;
};

inline std::string read_file(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

struct Mesh {
  Mesh() {
    client.namespace_name = "default";
    client.name = "greeter-client-7d4b9c8f6d-x2k4z";
    client.labels = {{"app", "greeter-client"}, {"version", "v2"}, {"pod-template-hash", "7d4b9c8f6d"}};
    auto backends = std::make_shared<config::Cluster>();
    backends->name = "outbound|50051||greeter.shop.svc.cluster.local";
    for (int i = 1; i <= 3; ++i) {
      const std::string n = std::to_string(i);
      backends->endpoints.push_back({address(("10.0.0." + n).c_str(), 50051), "greeter-" + n, "node"});
    }
    cluster = backends;
    service.namespace_name = "shop";
    service.name = "greeter";
    service.fqdn = "greeter.shop.svc.cluster.local";
    service.vips = {*base::IpAddress::parse("10.96.0.10")};
    service.labels = {{"app", "greeter"}};
    service.ports.push_back({"grpc", 50051, config::Protocol::grpc, config::Mode::l7, "port name grpc", cluster, {}});
  }

  Rpc rpc(size_t endpoint = 0) const {
    Rpc rpc;
    rpc.started = base::Instant(std::chrono::seconds(100));
    rpc.upstream_headers = rpc.started + std::chrono::milliseconds(3);
    rpc.ended = rpc.started + std::chrono::milliseconds(7);
    rpc.method = "POST";
    rpc.path = "/hello.Greeter/SayHello";
    rpc.authority = "greeter.shop:50051";
    rpc.user_agent = "grpc-go/1.60";
    rpc.details = "via_upstream";
    rpc.response_code = 200;
    rpc.grpc_status = 0;
    rpc.grpc = true;
    rpc.bytes_received = 12;
    rpc.bytes_sent = 345;
    rpc.request_messages = rpc.response_messages = 1;
    rpc.attempts = 1;
    rpc.source = &client;
    rpc.service = &service;
    rpc.cluster = cluster.get();
    rpc.endpoint = &cluster->endpoints[endpoint];
    rpc.downstream_local = address("10.96.0.10", 50051);
    rpc.downstream_remote = address("10.0.1.5", 40000);
    rpc.upstream_local = address("10.0.1.5", 41000);
    return rpc;
  }

  Rpc failed_rpc() const {
    Rpc rpc = this->rpc();
    rpc.grpc_status = 14;
    rpc.flags.set(Flag::UF);
    rpc.details = "upstream_reset_before_response_started";
    rpc.failure = "connect: Connection refused";
    return rpc;
  }

  config::Pod client;
  config::Service service;
  std::shared_ptr<const config::Cluster> cluster;
};

}  // namespace weir::telemetry
