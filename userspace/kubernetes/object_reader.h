// ObjectReader reads the fields of one manifest object and gathers what is wrong
// with them: each problem with its line, its path (spec.ports[0].port) and the
// likely fix. A field that is absent or null is not a problem; the caller says
// which ones are required. Included by the decoder's sources only.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "kubernetes/document.h"
#include "kubernetes/objects.h"

namespace weir::kubernetes {

class ObjectReader {
 public:
  // An object with more problems than these is not worth a longer list.
  static constexpr size_t kMaxFindings = 10;
  using json = nlohmann::json;

  ObjectReader(const Document& document, Origin origin) : document_(document), origin_(std::move(origin)) {}

  void set_name(std::string object_name) { object_name_ = std::move(object_name); }
  const json& root() const { return document_.value; }
  const Origin& origin() const { return origin_; }
  const std::string& object_name() const { return object_name_; }

  // The member, or an empty object or array when it is absent or of another type (then rejected).
  const json& object(const json& parent, const char* key);
  const json& array(const json& parent, const char* key);
  // Items of an array that are not objects are rejected and left out.
  std::vector<const json*> objects(const json& parent, const char* key);

  std::string string(const json& parent, const char* key);
  std::optional<std::string> optional_string(const json& parent, const char* key);
  std::string string_of(const json& parent, const char* key, std::initializer_list<std::string_view> allowed,
                        std::string_view fallback);
  std::optional<bool> boolean(const json& parent, const char* key);
  std::optional<uint16_t> port(const json& parent, const char* key);
  // An integer from `least` to `most`.
  std::optional<int64_t> integer(const json& parent, const char* key, int64_t least, int64_t most);
  std::optional<double> number(const json& parent, const char* key, double least, double most);
  // As Istio writes it ("2s"), at least `least`.
  std::optional<base::Duration> duration(const json& parent, const char* key, base::Duration least);
  std::vector<std::string> strings(const json& parent, const char* key);
  Labels string_map(const json& parent, const char* key);
  // Rejects what is no usable IP address.
  std::optional<base::IpAddress> address(const json& parent, std::string_view field, std::string_view text);

  // Rejects the object. `key` is a member of `parent`, present or not; empty for `parent` itself.
  void reject(Code code, const json& parent, std::string_view key, std::string problem, std::string fix = {});
  // A finding that does not reject the object.
  void report(Code code, const json& parent, std::string_view key, std::string message, std::string fix = {});
  bool rejected() const { return rejected_; }
  // From here on a rejection is one of `part` alone, and there is none yet.
  void begin_part(std::string part) {
    part_ = std::move(part);
    rejected_ = false;
  }
  // The hash of the object's own path, and the line of a path below it.
  uint64_t path() const { return document_.path; }
  int line_at(uint64_t path) const { return document_.lines ? document_.lines->find(path) : 0; }

  // One that was made elsewhere.
  void add(config::Finding finding) { findings_.add(std::move(finding)); }
  // All that there are, once.
  std::vector<config::Finding> take_findings() { return findings_.take({origin_.file, document_.line}, object_name_); }

 private:
  const json* member(const json& parent, const char* key) const;
  void wrong_type(const json& parent, std::string_view key, const json& value, const char* expected);
  struct Place {
    std::string path;
    int line = 0;
  };
  Place find(const json& target) const;
  Place place_of(const json& parent, std::string_view key) const;

  const Document& document_;
  Origin origin_;
  std::string object_name_;
  FindingList findings_{kMaxFindings};
  std::string part_ = "object";
  bool rejected_ = false;
};

}  // namespace weir::kubernetes
