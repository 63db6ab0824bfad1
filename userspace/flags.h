// The command line of weir-agent: every flag, its environment variable, its default.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "control/node.h"

namespace weir {

struct Flags {
  control::NodeOptions node;
  std::string kubeconfig;
  int64_t watch_silence_ms = 150'000;
  uint32_t linger_us = 100;
  int64_t verdict_lifetime_ms = 60'000;
  int64_t drain_timeout_ms = 600'000;
  int64_t send_timeout_ms = 30'000;
  int64_t stream_idle_timeout_ms = 0;
  std::string metrics_address = "0.0.0.0:15020";
  std::string log_level = "info";
  std::string log_format = "text";
  std::string access_log = "failed";
  std::string access_log_path = "-";
  std::string access_log_format = "text";
};

// Adds the flags of `weir-agent node`; parsing fills `flags`, which must outlive `app`.
void add_node_flags(CLI::App& app, Flags& flags);

}  // namespace weir
