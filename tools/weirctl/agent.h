// Agent: the running agent, asked through its admin socket.
#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace weir::weirctl {

using Parameters = std::map<std::string, std::string>;

// Codes of its errors: ECONNREFUSED, nobody answers; EOPNOTSUPP, this node can't do it (501); otherwise 0.
class Agent {
 public:
  // `patience`: for an answer, once connected.
  explicit Agent(const std::string& run_dir, std::chrono::seconds patience = std::chrono::seconds(10));

  base::Result<nlohmann::json> get(const std::string& path, const Parameters& parameters = {}) const;
  base::Result<std::string> get_text(const std::string& path, const Parameters& parameters = {}) const;
  base::Result<nlohmann::json> post(const std::string& path, const Parameters& parameters = {}) const;

 private:
  std::string socket_;
  std::chrono::seconds patience_;
};

}  // namespace weir::weirctl
