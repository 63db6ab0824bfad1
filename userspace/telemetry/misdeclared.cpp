#include "telemetry/misdeclared.h"

namespace weir::telemetry {

void Misdeclared::count(const config::Service& service, uint16_t port) {
  entry({service.namespace_name, service.name, std::to_string(port)}).connections.add(1);
}

Misdeclared::Entry& Misdeclared::entry(ServicePortLabels labels) {
  if (const auto known = index_.find(labels); known != index_.end()) return *known->second;
  // The last place is for what does not fit.
  if (entries_.size() + 1 >= entries_.capacity()) {
    labels = {"other", "other", "other"};
    if (const auto known = index_.find(labels); known != index_.end()) return *known->second;
  }
  auto made = std::make_unique<Entry>();
  made->labels = labels;
  return *index_.emplace(std::move(labels), &entries_.push(std::move(made))).first->second;
}

void Misdeclared::collect(std::map<ServicePortLabels, uint64_t>& into) const {
  for (size_t i = 0, n = entries_.size(); i < n; ++i) into[entries_[i].labels] += entries_[i].connections.read();
}

}  // namespace weir::telemetry
