// Two Services, the rows that divert connections to them, and sockets.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "interception/unmanaged.h"

namespace weir::interception::testing {

inline base::SocketAddress at(const char* ip, uint16_t port) { return {*base::IpAddress::parse(ip), port}; }

constexpr uint64_t kCookie = 77, kAgentCgroup = 500, kPodCgroup = 600;

struct UnmanagedWorld {
  UnmanagedWorld() {
    auto made = std::make_shared<config::Snapshot>();
    auto directory = std::make_shared<config::Directory>();
    for (const auto& [name, vip] :
         {std::pair("greeter", "10.96.0.10"), std::pair("greeter6", "fd00:96::10"), std::pair("other", "10.96.0.11")}) {
      auto service = std::make_shared<config::Service>();
      service->namespace_name = "default";
      service->name = name;
      service->fqdn = std::string(name) + ".default.svc.cluster.local";
      service->vips = {*base::IpAddress::parse(vip)};
      config::ServicePort port;
      port.port = 50051;
      port.mode = config::Mode::l7;
      service->ports = {port};
      directory->by_address[{service->vips[0], 50051}] = {static_cast<uint32_t>(made->services.size()), 0};
      made->services.push_back(std::move(service));
      services[{*base::IpAddress::parse(vip), 50051}] = {WEIR_MODE_L7, 0, 1};
    }
    auto headless = std::make_shared<config::Service>();
    headless->namespace_name = "default";
    headless->name = "headless";
    headless->fqdn = "headless.default.svc.cluster.local";
    headless->by_endpoint = true;
    headless->ports.resize(1);
    headless->ports[0].port = 50051;
    headless->ports[0].mode = config::Mode::l7;
    const base::SocketAddress endpoint = at("10.244.0.7", 8080);
    made->by_endpoint = std::make_shared<const config::Directory::Places>(
        config::Directory::Places{{endpoint, {static_cast<uint32_t>(made->services.size()), 0}}});
    made->services.push_back(std::move(headless));
    services[endpoint] = {WEIR_MODE_L7, 0, 1};
    made->directory = std::move(directory);
    snapshot = std::move(made);
    pods[kCookie] = {};
    pods[kCookie].flags = WEIR_POD_IPV6;
  }

  DiversionRows rows() {
    DiversionRows rows;
    rows.config = [this]() -> base::Result<weir_config> {
      if (fail) return base::Error{"no map"};
      return config;
    };
    rows.pod = [this](uint64_t cookie) -> base::Result<std::optional<weir_pod>> {
      const auto row = pods.find(cookie);
      return row == pods.end() ? std::nullopt : std::optional(row->second);
    };
    rows.service = [this](const base::SocketAddress& vip) -> base::Result<std::optional<weir_service>> {
      ++service_reads;
      const auto row = services.find(vip);
      return row == services.end() ? std::nullopt : std::optional(row->second);
    };
    rows.others_beat = [this] { return others_beat; };
    rows.verdict = [this](uint64_t cookie,
                          const base::SocketAddress& vip) -> base::Result<std::optional<weir_verdict>> {
      if (fail_verdicts) return base::Error{"no map"};
      const auto row = verdicts.find({cookie, vip});
      return row == verdicts.end() ? std::nullopt : std::optional(row->second);
    };
    rows.pod_brake = [this](uint64_t cookie) -> base::Result<bool> { return pod_brakes.contains(cookie); };
    rows.service_brake = [this](const base::SocketAddress& vip) -> base::Result<bool> {
      return service_brakes.contains(vip);
    };
    return rows;
  }

  std::shared_ptr<const config::Snapshot> snapshot;
  weir_config config{};
  std::map<uint64_t, weir_pod> pods;
  std::map<base::SocketAddress, weir_service> services;
  std::map<std::pair<uint64_t, base::SocketAddress>, weir_verdict> verdicts;
  std::set<uint64_t> pod_brakes;
  std::set<base::SocketAddress> service_brakes;
  bool fail = false, fail_verdicts = false, others_beat = false;
  int service_reads = 0;
};

inline TcpSocket socket_to(const char* remote, uint16_t port = 50051, const char* local = "10.244.0.5") {
  TcpSocket socket;
  socket.id = {at(local, 40000), at(remote, port), 1};
  socket.cgroup = kPodCgroup;
  return socket;
}

}  // namespace weir::interception::testing
