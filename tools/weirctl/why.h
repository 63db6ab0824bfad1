// Whether a pod's connections to a service port are diverted, and the one
// reason: the same questions in the same order as the connect hook asks them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace weir::weirctl {

struct WhyFacts {
  nlohmann::json pod;      // of /pods
  nlohmann::json config;   // the pod of /config_dump; null if it has left the configuration
  nlohmann::json service;  // of /config_dump
  uint16_t port = 0;
  bool node_brake = false;
  nlohmann::json pod_row;       // of the BPF map; null: none
  nlohmann::json service_rows;  // those of the service's addresses with the port
  nlohmann::json verdicts;      // that hold for the pod, of those which learn
  uint64_t unmanaged = 0;       // connections from the one to the other that go past weir
};

// {pod, service, port, diverted, code, reason}; with unmanaged_connections if it is diverted
nlohmann::json why(const WhyFacts& facts);

}  // namespace weir::weirctl
