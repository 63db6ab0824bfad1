#include "kubernetes/reflector.h"

#include <algorithm>
#include <array>
#include <utility>

#include "kubernetes/api_answer.h"
#include "kubernetes/decode.h"
#include "kubernetes/document.h"

namespace weir::kubernetes {
namespace {

using nlohmann::json;

constexpr int kOk = 200, kBadRequest = 400, kNotFound = 404, kGone = 410, kUnprocessable = 422;
constexpr char kInitialEventsEnd[] = "k8s.io/initial-events-end";
constexpr size_t kMaxProblem = 4096;  // of an answer that is only shown
// A watch that ends sooner was no watch ...
constexpr base::Duration kShortWatch = std::chrono::seconds(1);
// ... and after an answer that lasted so long the next failure is the first.
constexpr base::Duration kLongAnswer = std::chrono::seconds(10);
constexpr uint32_t kWatchFailures = 5;  // in a row: then the list is asked for anew
constexpr std::array kNotOfTheVersion{401, 403, 429, 502, 503};
constexpr uint32_t kAbsences = 5;   // of every version of what has been there, in a row
constexpr int kWatchSeconds = 300;  // and up to twice that: the server ends it then

std::string escaped(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
      result += c;
    } else {
      result += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return result;
}

bool ends_initial_events(const json& bookmark) {
  const json* metadata = member(bookmark, "metadata");
  const json* annotations = metadata ? member(*metadata, "annotations") : nullptr;
  return annotations && text_of(member(*annotations, kInitialEventsEnd)) == "true";
}

// Of a pod elsewhere only what a subset may ask for.
void keep_only(Metadata& metadata, const std::set<std::string>& keys) {
  std::erase_if(metadata.labels, [&](const auto& label) { return !keys.contains(label.first); });
  metadata.annotations.clear();
  metadata.created.clear();
}

}  // namespace

Reflector::Reflector(Resource resource, ReflectorSettings settings, uint64_t seed, std::vector<ApiChange>* changes)
    : resource_(std::move(resource)), settings_(settings), random_(seed), changes_(changes) {}

void Reflector::start_over(base::Instant now) {
  begin_list();
  due_ = now;
  running_ = false;
}

void Reflector::begin_list() {
  mode_ = streams_lists_ ? Mode::streamed_list : Mode::list;
  resource_version_.clear();
  continue_.clear();
  listed_.clear();
}

ApiRequest Reflector::begin(base::Instant now) {
  running_ = true;
  began_ = now;
  status_ = 0;
  expired_ = false;
  retry_after_.reset();
  received_.clear();
  broken_.clear();
  ApiRequest request;
  if (resource_.metadata_only) request.form = mode_ == Mode::list ? ApiForm::metadata_list : ApiForm::metadata;
  request.target = resource_.versions[version_].path + "?" + resource_.selector;
  if (!resource_.selector.empty()) request.target += "&";
  const int seconds = kWatchSeconds + static_cast<int>(random_() % kWatchSeconds);
  const std::string watch = "watch=1&allowWatchBookmarks=true&timeoutSeconds=" + std::to_string(seconds);
  switch (mode_) {
    case Mode::streamed_list:
      listed_.clear();
      request.target += watch + "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
      break;
    case Mode::list:
      request.time_limit = settings_.page_limit;
      request.target += "limit=" + std::to_string(settings_.page);
      if (!continue_.empty()) request.target += "&continue=" + escaped(continue_);
      break;
    case Mode::watch:
      request.target += watch + "&resourceVersion=" + escaped(resource_version_);
      break;
  }
  return request;
}

void Reflector::on_head(int status, std::optional<base::Duration> retry_after) {
  status_ = status;
  retry_after_ = retry_after;
  // It is followed from here on, also if nothing happens for long.
  if (mode_ == Mode::watch && status == kOk) problem_.clear();
}

bool Reflector::on_bytes(std::string_view bytes) {
  if (status_ != kOk) {
    received_.append(bytes.substr(0, kMaxProblem - std::min(kMaxProblem, received_.size())));
    return true;
  }
  if (mode_ == Mode::list) {
    if (received_.size() + bytes.size() > settings_.max_list) {
      broken_ = "a page of the list is larger than " + std::to_string(settings_.max_list >> 20) + " MiB";
      return false;
    }
    received_.append(bytes);
    return true;
  }
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    if (received_.size() + std::min(end, bytes.size()) > settings_.max_event) {
      broken_ = "an event is larger than " + std::to_string(settings_.max_event >> 20) + " MiB";
      return false;
    }
    received_.append(bytes.substr(0, end));
    if (end == std::string_view::npos) return true;
    bytes.remove_prefix(end + 1);
    const std::string line = std::exchange(received_, {});
    if (!line.empty() && !on_event(line)) return false;
  }
  return true;
}

bool Reflector::on_event(std::string_view line) {
  json event = read_json(line);
  const std::string type = text_of(member(event, "type"));
  if (type.empty() || !member(event, "object") || !event["object"].is_object()) {
    broken_ = "an event cannot be read: " + said(line);
    return false;
  }
  json& object = event["object"];
  if (type == "ERROR") {
    const json* code = member(object, "code");
    expired_ = code && code->is_number_integer() && *code == kGone;
    broken_ = "the watch ended: " + text_of(member(object, "message"));
    return false;
  }
  ++events_;
  problem_.clear();
  if (mode_ == Mode::watch || type == "BOOKMARK") take_version(object);
  if (type == "BOOKMARK") {
    if (mode_ == Mode::streamed_list && ends_initial_events(object)) finish_list();
  } else if (type == "DELETED") {
    remove(object);
  } else {
    put(std::move(object));
  }
  return true;
}

void Reflector::take_version(const json& object) {
  if (std::string version = metadata_text(object, "resourceVersion"); !version.empty())
    resource_version_ = std::move(version);
}

void Reflector::put(json object) {
  // Items of lists have neither, and metadata alone has others.
  object["kind"] = resource_.kind;
  object["apiVersion"] = resource_.versions[version_].api_version;
  SourceContents contents;
  Document document;
  document.value = std::move(object);
  decode(document, {}, contents);
  if (!contents.objects.empty()) {
    Object& good = contents.objects.front();
    if (kept_labels_ && std::holds_alternative<Pod>(good)) keep_only(std::get<Pod>(good).metadata, *kept_labels_);
    if (mode_ != Mode::watch) listed_.insert(key_of(good));
    changes_->push_back({resource_.name, ApiChange::Put{std::move(good), std::move(contents.findings)}});
  } else if (!contents.rejected.empty()) {
    if (mode_ != Mode::watch) listed_.insert(contents.rejected.front());
    std::string version = metadata_text(document.value, "resourceVersion");
    changes_->push_back({resource_.name, ApiChange::Rejected{contents.rejected.front(), std::move(contents.findings),
                                                             std::move(version)}});
  } else if (ObjectKey key = key_of_json(document.value); !key.name.empty()) {
    if (mode_ != Mode::watch) listed_.insert(key);
    changes_->push_back({resource_.name, ApiChange::Noted{std::move(key), std::move(contents.findings)}});
  }
}

ObjectKey Reflector::key_of_json(const json& object) const {
  return {resource_.object_kind, metadata_text(object, "namespace"), metadata_text(object, "name")};
}

void Reflector::remove(const json& object) {
  ObjectKey key = key_of_json(object);
  listed_.erase(key);
  changes_->push_back({resource_.name, ApiChange::Removed{std::move(key)}});
}

void Reflector::finish_list() {
  changes_->push_back({resource_.name, ApiChange::Retained{std::exchange(listed_, {})}});
  mode_ = Mode::watch;
  failures_ = 0;
  absences_ = 0;
  synced_ = true;
  missing_ = false;
}

// The items are taken one by one while the page is read, so that it never stands in memory as a whole tree.
bool Reflector::read_page() {
  bool among_items = false, too_deep = false;
  const auto take = [&](int depth, json::parse_event_t event, json& parsed) {
    too_deep |= depth > kMaxJsonDepth;
    if (too_deep) return false;
    if (event == json::parse_event_t::key && depth == 1) among_items = parsed == "items";
    if (event != json::parse_event_t::object_end || depth != 2 || !among_items) return true;
    put(std::move(parsed));
    return false;
  };
  const json page = json::parse(std::exchange(received_, {}), take, false);
  const json* items = page.is_object() && !too_deep ? member(page, "items") : nullptr;
  if (!items || !(items->is_array() || items->is_null())) return false;  // none: null, of metadata alone
  take_version(page);
  continue_ = metadata_text(page, "continue");
  return true;
}

void Reflector::on_end(base::Instant now, const std::string& error) {
  running_ = false;
  if (now - began_ > kLongAnswer) failures_ = 0;
  if (status_ == kGone || expired_) {
    if (mode_ == Mode::watch) failures_ = 0;  // who says so is there again, and the list is not to be waited for
    begin_list();
    return fail(now, broken_.empty() ? said(received_) : broken_);
  }
  if (!error.empty() && broken_.empty()) broken_ = error;
  if (mode_ == Mode::streamed_list && status_ == kOk) {
    // It came to no end. A server that has no such lists may stream events all the same: next time in pages.
    fail(now, broken_.empty() ? "the server ended the list before it was complete" : broken_);
    mode_ = Mode::list;
    return;
  }
  if (!broken_.empty()) return fail(now, broken_);
  if (status_ != kOk) return refused(now);
  if (mode_ == Mode::watch) {
    if (now - began_ < kShortWatch) return fail(now, "the server ended the watch at once");
    due_ = now;
    return;
  }
  if (!read_page()) return fail(now, "the list cannot be read");
  problem_.clear();
  failures_ = 0;
  if (continue_.empty()) finish_list();
  due_ = now;
}

void Reflector::refused(base::Instant now) {
  // A page for people comes from something in between.
  if (status_ == kNotFound && !resource_.group.empty() && !received_.starts_with('<')) return absent(now);
  const bool streamed = mode_ == Mode::streamed_list;
  if (streamed && (status_ == kBadRequest || status_ == kUnprocessable)) {
    streams_lists_ = false;
    begin_list();
    due_ = now;
    return;
  }
  fail(now, std::to_string(status_) + " " + said(received_), retry_after_);
}

// The CRD is not installed, or not in this version: there are no objects, until it is. Where there were some, it is
// believed only when it is said again and again: a CRD that goes deletes them first.
void Reflector::absent(base::Instant now) {
  version_ = (version_ + 1) % resource_.versions.size();
  begin_list();
  due_ = now;
  ++absences_;
  if (absences_ % resource_.versions.size() != 0) return;
  if (synced_ && !missing_ && absences_ < kAbsences * resource_.versions.size())
    return fail(now, "404 " + said(received_));
  finish_list();
  begin_list();
  missing_ = true;
  problem_.clear();
  failures_ = 0;
  due_.reset();
}

void Reflector::fail(base::Instant now, std::string problem, std::optional<base::Duration> least) {
  problem_ = std::move(problem);
  // A list goes on with the next page only within minutes, and some failures of a watch are its resourceVersion's: none
  // of a server that is away, busy, or does not know us. A thousand agents that list when it is back would end it
  // again.
  const bool of_the_version =
      status_ != 0 && std::find(kNotOfTheVersion.begin(), kNotOfTheVersion.end(), status_) == kNotOfTheVersion.end();
  if (mode_ != Mode::watch || (failures_ >= kWatchFailures && of_the_version)) begin_list();
  base::Duration wait = settings_.first_backoff;
  for (uint32_t i = 0; i < failures_ && wait < settings_.longest_backoff; ++i) wait *= 2;
  ++failures_;
  wait = jittered(std::min(wait, settings_.longest_backoff));
  due_ = now + std::max(wait, std::min(least.value_or(base::Duration(0)), kLongestRetryAfter));
}

// Half to one and a half of it: a thousand agents don't come back at the same moment.
base::Duration Reflector::jittered(base::Duration duration) {
  return duration / 2 + base::Duration(static_cast<int64_t>(random_() % static_cast<uint64_t>(duration.count() + 1)));
}

}  // namespace weir::kubernetes
