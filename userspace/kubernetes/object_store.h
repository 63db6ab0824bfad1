// ObjectStore holds the objects by kind, namespace and name, whatever source
// they came from (a file, the API server), and each source's findings. When two
// sources define the same object, the source that sorts first has it. A version
// that was rejected never replaces a good one. One thread.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kubernetes/decode.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

// An object that is another now. `before` or `after` is null if there was or is none.
struct Change {
  ObjectKey key;
  std::shared_ptr<const Object> before, after;
};

class ObjectStore {
 public:
  // Makes `contents` all that `source` holds: what it held before and holds no longer is
  // removed, except objects whose new version was rejected and, when the source could not be
  // read completely, anything. Returns whether something changed, findings included.
  bool replace(const std::string& source, SourceContents contents);
  // The source is gone with everything that came from it.
  bool forget(const std::string& source);
  // Only the source's findings change; its objects stay (a file that cannot be read now).
  bool set_findings(const std::string& source, std::vector<config::Finding> findings);

  // Single objects, for sources that tell of changes one by one. The findings are all that there are about the object;
  // one that was rejected keeps its last good version.
  bool apply(const std::string& source, Object object, std::vector<config::Finding> findings = {});
  bool reject(const std::string& source, const ObjectKey& key, std::vector<config::Finding> findings);
  // Of an object that is not read as one: nothing but the findings is kept.
  bool note(const std::string& source, const ObjectKey& key, std::vector<config::Finding> findings);
  bool remove(const std::string& source, const ObjectKey& key);
  // What the source holds besides these is gone.
  bool retain(const std::string& source, const std::set<ObjectKey>& keys);

  // What is another than at the last call, one Change an object. Objects only: findings may have changed besides.
  std::vector<Change> take_changes();

  std::shared_ptr<const Object> find(const ObjectKey& key) const;  // null if there is none
  size_t size() const { return objects_.size(); }
  // Calls f(const std::shared_ptr<const T>&) for every object of the type, in the order of namespace and name.
  template <class T, class F>
  void for_each_shared(F&& f) const {
    constexpr Kind kKind = kind_of<T>();
    for (auto it = objects_.lower_bound(ObjectKey{kKind, {}, {}}); it != objects_.end() && it->first.kind == kKind;
         ++it) {
      f(shared_as<T>(it->second.front().object));
    }
  }
  // Calls f(const T&).
  template <class T, class F>
  void for_each(F&& f) const {
    for_each_shared<T>([&f](const std::shared_ptr<const T>& object) { f(*object); });
  }
  // Of all sources, and one for every object that is defined twice.
  std::vector<config::Finding> findings() const;

 private:
  struct Version {
    std::string source;
    std::shared_ptr<const Object> object;
  };
  struct Source {
    std::set<ObjectKey> keys;
    std::vector<config::Finding> findings;
    std::map<ObjectKey, std::vector<config::Finding>> object_findings;  // of single objects, never empty ones
  };
  static bool set_object_findings(Source& source, const ObjectKey& key, std::vector<config::Finding> findings);
  // The next version of the object that counts may be another one.
  void changing(const ObjectKey& key);
  bool put(const std::string& source, const ObjectKey& key, Object object);
  bool take(const std::string& source, const ObjectKey& key);

  std::map<ObjectKey, std::vector<Version>> objects_;  // versions sorted by source, never empty
  std::map<std::string, Source> sources_;
  std::map<ObjectKey, std::shared_ptr<const Object>> changed_;  // since take_changes(): as they were then
};

}  // namespace weir::kubernetes
