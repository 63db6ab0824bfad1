// Agent: the running agent, asked through its admin socket.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace weir::weirctl {

using Parameters = std::map<std::string, std::string>;

class Agent {
 public:
  explicit Agent(const std::string& run_dir);

  base::Result<nlohmann::json> get(const std::string& path, const Parameters& parameters = {}) const;
  base::Result<std::string> get_text(const std::string& path, const Parameters& parameters = {}) const;
  base::Result<void> post(const std::string& path, const Parameters& parameters = {}) const;

 private:
  std::string socket_;
};

}  // namespace weir::weirctl
