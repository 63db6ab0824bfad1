// Endpoints for a balancer to pick from.
#pragma once

#include <chrono>
#include <span>
#include <vector>

#include "clusters/balancer.h"

namespace weir::clusters {

class Endpoints {
 public:
  explicit Endpoints(size_t count) : states_(count) {
    for (auto& state : states_) pointers_.push_back(&state);
  }
  std::span<EndpointState* const> all() const { return pointers_; }
  EndpointState& operator[](size_t i) { return states_[i]; }
  size_t index(const EndpointState* e) const { return static_cast<size_t>(e - states_.data()); }

 private:
  std::vector<EndpointState> states_;
  std::vector<EndpointState*> pointers_;
};

inline const base::Instant kNow{std::chrono::seconds(100)};

}  // namespace weir::clusters
