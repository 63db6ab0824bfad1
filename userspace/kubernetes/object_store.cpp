#include "kubernetes/object_store.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "kubernetes/findings.h"

namespace weir::kubernetes {
namespace {

// "file:12", for a finding about another place.
std::string place(const Origin& origin) {
  return origin.file.empty() ? "the API server" : origin.file + ":" + std::to_string(origin.line);
}

config::Finding defined_twice(const Origin& loser, const Origin& winner, const ObjectKey& key) {
  return finding(Code::defined_twice, loser, key.to_string(),
                 "is defined in " + place(winner) + " too, which counts; this definition is ignored",
                 "remove one of the two");
}

// Adds that to the errors among the findings.
void say_that_it_stays(
    std::vector<config::Finding>& findings,
    const std::function<bool(const config::Finding&)>& concerns = [](const auto&) { return true; }) {
  for (config::Finding& finding : findings) {
    if (finding.severity == config::Severity::error && concerns(finding))
      finding.message += "; its last good version stays";
  }
}

}  // namespace

void ObjectStore::changing(const ObjectKey& key) { changed_.try_emplace(key, find(key)); }

std::vector<Change> ObjectStore::take_changes() {
  std::vector<Change> result;
  for (auto& [key, before] : std::exchange(changed_, {})) {
    auto after = find(key);
    if (before != after) result.push_back({key, before, std::move(after)});
  }
  return result;
}

bool ObjectStore::put(const std::string& source, const ObjectKey& key, Object object) {
  changing(key);
  auto& versions = objects_[key];
  auto at = std::lower_bound(versions.begin(), versions.end(), source,
                             [](const Version& version, const std::string& name) { return version.source < name; });
  if (at == versions.end() || at->source != source) {
    versions.insert(at, {source, std::make_shared<const Object>(std::move(object))});
    return true;
  }
  if (*at->object == object) return false;
  at->object = std::make_shared<const Object>(std::move(object));
  return true;
}

bool ObjectStore::take(const std::string& source, const ObjectKey& key) {
  auto found = objects_.find(key);
  if (found == objects_.end()) return false;
  changing(key);
  bool removed = std::erase_if(found->second, [&](const Version& version) { return version.source == source; }) > 0;
  if (found->second.empty()) objects_.erase(found);
  return removed;
}

bool ObjectStore::replace(const std::string& name, SourceContents contents) {
  Source& source = sources_[name];
  std::map<ObjectKey, Origin> seen;
  bool changed = false;
  for (Object& object : contents.objects) {
    ObjectKey key = key_of(object);
    Origin origin = metadata_of(object).origin;
    auto [first, fresh] = seen.emplace(key, origin);
    if (fresh) {
      changed |= put(name, key, std::move(object));
    } else {
      contents.findings.push_back(defined_twice(origin, first->second, key));
    }
  }
  std::set<std::string> kept;
  for (const ObjectKey& key : contents.rejected) {
    if (!source.keys.contains(key) || seen.contains(key)) continue;
    kept.insert(key.to_string());
    seen.emplace(key, Origin{});
  }
  say_that_it_stays(contents.findings, [&](const config::Finding& finding) { return kept.contains(finding.object); });
  std::set<ObjectKey> keys;
  for (const auto& [key, origin] : seen) keys.insert(keys.end(), key);
  for (const ObjectKey& key : source.keys) {
    if (seen.contains(key)) continue;
    if (contents.complete) {
      changed |= take(name, key);
    } else {
      keys.insert(key);
    }
  }
  source.keys = std::move(keys);
  changed |= set_findings(name, std::move(contents.findings));
  return changed;
}

bool ObjectStore::forget(const std::string& name) {
  auto source = sources_.find(name);
  if (source == sources_.end()) return false;
  bool changed = !source->second.findings.empty() || !source->second.object_findings.empty();
  for (const ObjectKey& key : source->second.keys) changed |= take(name, key);
  sources_.erase(source);
  return changed;
}

bool ObjectStore::set_findings(const std::string& name, std::vector<config::Finding> findings) {
  Source& source = sources_[name];
  if (source.findings == findings) return false;
  source.findings = std::move(findings);
  return true;
}

bool ObjectStore::set_object_findings(Source& source, const ObjectKey& key, std::vector<config::Finding> findings) {
  if (findings.empty()) return source.object_findings.erase(key) > 0;
  auto& known = source.object_findings[key];
  if (known == findings) return false;
  known = std::move(findings);
  return true;
}

bool ObjectStore::apply(const std::string& name, Object object, std::vector<config::Finding> findings) {
  ObjectKey key = key_of(object);
  Source& source = sources_[name];
  source.keys.insert(key);
  bool changed = set_object_findings(source, key, std::move(findings));
  changed |= put(name, key, std::move(object));
  return changed;
}

bool ObjectStore::reject(const std::string& name, const ObjectKey& key, std::vector<config::Finding> findings) {
  Source& source = sources_[name];
  if (source.keys.contains(key)) say_that_it_stays(findings);
  return set_object_findings(source, key, std::move(findings));
}

bool ObjectStore::note(const std::string& name, const ObjectKey& key, std::vector<config::Finding> findings) {
  return set_object_findings(sources_[name], key, std::move(findings));
}

bool ObjectStore::retain(const std::string& name, const std::set<ObjectKey>& keys) {
  Source& source = sources_[name];
  bool changed =
      std::erase_if(source.object_findings, [&](const auto& entry) { return !keys.contains(entry.first); }) > 0;
  std::erase_if(source.keys, [&](const ObjectKey& key) {
    if (keys.contains(key)) return false;
    changed |= take(name, key);
    return true;
  });
  return changed;
}

bool ObjectStore::remove(const std::string& name, const ObjectKey& key) {
  auto source = sources_.find(name);
  if (source == sources_.end()) return false;
  bool changed = source->second.object_findings.erase(key) > 0;
  if (source->second.keys.erase(key) > 0) changed |= take(name, key);
  return changed;
}

std::shared_ptr<const Object> ObjectStore::find(const ObjectKey& key) const {
  const auto found = objects_.find(key);
  return found == objects_.end() ? nullptr : found->second.front().object;
}

std::vector<config::Finding> ObjectStore::findings() const {
  std::vector<config::Finding> result;
  for (const auto& [name, source] : sources_) {
    result.insert(result.end(), source.findings.begin(), source.findings.end());
    for (const auto& [key, findings] : source.object_findings)
      result.insert(result.end(), findings.begin(), findings.end());
  }
  for (const auto& [key, versions] : objects_) {
    const Origin& winner = metadata_of(*versions.front().object).origin;
    for (size_t i = 1; i < versions.size(); ++i) {
      const Origin& loser = metadata_of(*versions[i].object).origin;
      // The API server has each object once, even while two of its watches tell of it.
      if (!winner.file.empty() || !loser.file.empty()) result.push_back(defined_twice(loser, winner, key));
    }
  }
  return result;
}

}  // namespace weir::kubernetes
