#include "kubernetes/own_keys.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace weir::kubernetes {
namespace {

constexpr std::string_view kPrefix = "weir.dev/";
constexpr size_t kMost = 10;

enum class Place : uint8_t { label, annotation };

struct OwnKey {
  std::string_view name;
  Place place;
  Kind kind;
};

constexpr std::array<OwnKey, 11> kOwnKeys{{
    {"weir.dev/dataplane", Place::label, Kind::pod},
    {"weir.dev/dataplane", Place::label, Kind::namespace_},
    {"weir.dev/fail-policy", Place::annotation, Kind::pod},
    {"weir.dev/fail-policy", Place::annotation, Kind::namespace_},
    {"weir.dev/redirect", Place::annotation, Kind::pod},
    {"weir.dev/redirect", Place::annotation, Kind::namespace_},
    {"weir.dev/exclude-outbound-ports", Place::annotation, Kind::pod},
    {"weir.dev/detect", Place::annotation, Kind::service},
    {"weir.dev/load-balancing", Place::annotation, Kind::service},
    {"weir.dev/balance-headless", Place::annotation, Kind::service},
    {"weir.dev/idempotent-methods", Place::annotation, Kind::virtual_service},
}};

const char* to_string(Place place) { return place == Place::label ? "label" : "annotation"; }

// "the annotation weir.dev/detect of Services", or what else `name` might have been meant to be.
std::string fix_for(std::string_view name, Kind kind) {
  std::string places, here;
  for (const OwnKey& key : kOwnKeys) {
    if (key.name == name) {
      places += places.empty() ? "it is the " + std::string(to_string(key.place)) + " of a " : " or a ";
      places += kubernetes::to_string(key.kind);
    }
    if (key.kind == kind) here += (here.empty() ? "" : ", ") + std::string(key.name);
  }
  if (!places.empty()) return places;
  if (here.empty()) return "remove it";
  return std::string("a ") + kubernetes::to_string(kind) + " has " + here;
}

}  // namespace

std::vector<config::Finding> unread_keys(const ObjectKey& object, const Metadata& metadata) {
  std::vector<config::Finding> findings;
  const auto look_at = [&](const Labels& keys, Place place) {
    for (auto it = keys.lower_bound(kPrefix); it != keys.end() && it->first.starts_with(kPrefix); ++it) {
      const std::string& name = it->first;
      const bool read = std::any_of(kOwnKeys.begin(), kOwnKeys.end(), [&](const OwnKey& key) {
        return key.name == name && key.place == place && key.kind == object.kind;
      });
      if (read || findings.size() == kMost) continue;
      findings.push_back(
          finding(Code::unread_key, metadata.origin, object.to_string(),
                  "has the " + std::string(to_string(place)) + " " + shown(name) + ", which means nothing there",
                  fix_for(name, object.kind)));
    }
  };
  look_at(metadata.labels, Place::label);
  look_at(metadata.annotations, Place::annotation);
  return findings;
}

}  // namespace weir::kubernetes
